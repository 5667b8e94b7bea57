; The runtime of compiled programs: what runs a table of calls, nested loops, primitives of oneDNN, threads.
; A function that a table calls takes (arguments, dimensions, strides, data), as the inner loops of NumPy's ufuncs do.

; rows of (function, arguments, dimensions, strides, data, checked); returns the number of the row that failed, or n
define i64 @run_table(ptr %table, i64 %from, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ %from, %entry ], [ %next, %latch ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %row = call ptr @advance(ptr %table, i64 48, i64 %i)
  %f = call ptr @pointer_at(ptr %row, i64 0)
  %args = call ptr @pointer_at(ptr %row, i64 1)
  %dims = call ptr @pointer_at(ptr %row, i64 2)
  %steps = call ptr @pointer_at(ptr %row, i64 3)
  %data = call ptr @pointer_at(ptr %row, i64 4)
  %checked = call i64 @number_at(ptr %row, i64 5)
  %status = call i64 %f(ptr %args, ptr %dims, ptr %steps, ptr %data)
  %bad = and i64 %status, %checked
  %fine = icmp eq i64 %bad, 0
  br i1 %fine, label %latch, label %end
latch:
  %next = add i64 %i, 1
  br label %head
end:
  ret i64 %i
}

; the same as a Python function: self is a bytes object of (table, n), whose contents begin at BYTES
define ptr @run_segment(ptr %self, ptr %unused) {
  %p = getelementptr i8, ptr %self, i64 BYTES
  %np = getelementptr i8, ptr %p, i64 8
  %table = load ptr, ptr %p, align 1
  %n = load i64, ptr %np, align 1
  %at = call i64 @run_table(ptr %table, i64 0, i64 %n)
  %result = call ptr @PyLong_FromLongLong(i64 %at)
  ret ptr %result
}

; the address of an array's data, as a Python function
define ptr @data_pointer(ptr %self, ptr %array) {
  %data = call ptr @data_of(ptr %array)
  %address = ptrtoint ptr %data to i64
  %result = call ptr @PyLong_FromLongLong(i64 %address)
  ret ptr %result
}

; a loop around a loop of up to four arguments: dims = (times, arguments, dims of the inner …), steps = (of the outer, one
; an argument, of the inner …), data = (function, data)
define i64 @nested_loop(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %local = alloca [4 x ptr]
  %times = call i64 @number_at(ptr %dims, i64 0)
  %n = call i64 @number_at(ptr %dims, i64 1)
  %inner = getelementptr i64, ptr %dims, i64 2
  %strides = getelementptr i64, ptr %steps, i64 %n
  %f = call ptr @pointer_at(ptr %data, i64 0)
  %x = call ptr @pointer_at(ptr %data, i64 1)
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %latch ]
  %more = icmp slt i64 %k, %times
  br i1 %more, label %fill, label %end
fill:
  %j = phi i64 [ 0, %head ], [ %jn, %fill ]
  %a = call ptr @pointer_at(ptr %args, i64 %j)
  %s = call i64 @number_at(ptr %steps, i64 %j)
  %moved = call ptr @advance(ptr %a, i64 %s, i64 %k)
  %lp = getelementptr [4 x ptr], ptr %local, i64 0, i64 %j
  store ptr %moved, ptr %lp
  %jn = add i64 %j, 1
  %again = icmp slt i64 %jn, %n
  br i1 %again, label %fill, label %latch
latch:
  call void %f(ptr %local, ptr %inner, ptr %strides, ptr %x)
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 0
}

; a primitive of oneDNN: args = its arrays, dims = (how many), data = (dnnl_memory_set_data_handle,
; dnnl_primitive_execute, dnnl_stream_wait, primitive, stream, its arguments, memory objects …); returns the status
define i64 @onednn(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %n = call i64 @number_at(ptr %dims, i64 0)
  %set = call ptr @pointer_at(ptr %data, i64 0)
  %memories = getelementptr ptr, ptr %data, i64 6
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %place ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %place, label %run
place:
  %m = call ptr @pointer_at(ptr %memories, i64 %i)
  %a = call ptr @pointer_at(ptr %args, i64 %i)
  %placed = call i32 %set(ptr %m, ptr %a)
  %next = add i64 %i, 1
  br label %head
run:
  %execute = call ptr @pointer_at(ptr %data, i64 1)
  %wait = call ptr @pointer_at(ptr %data, i64 2)
  %primitive = call ptr @pointer_at(ptr %data, i64 3)
  %stream = call ptr @pointer_at(ptr %data, i64 4)
  %given = call ptr @pointer_at(ptr %data, i64 5)
  %n32 = trunc i64 %n to i32
  %status = call i32 %execute(ptr %primitive, ptr %stream, i32 %n32, ptr %given)
  %waited = call i32 %wait(ptr %stream)
  %answer = sext i32 %status to i64
  ret i64 %answer
}

; 0 where all n numbers of an index are from 0 to length − 1, else 1: args = (index), dims = (n, length)
define i64 @within(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %x = call ptr @pointer_at(ptr %args, i64 0)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %length = call i64 @number_at(ptr %dims, i64 1)
  %wrong = call i64 @out_of_range(ptr %x, i64 %n, i64 %length)
  ret i64 %wrong
}

; y[k] = x[index[k]] for rows of so many bytes: args = (x, index, y), dims = (n, bytes, rows of x); returns 1, and nothing has
; happened, where an index is not in range
define i64 @take_rows(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %x = call ptr @pointer_at(ptr %args, i64 0)
  %index = call ptr @pointer_at(ptr %args, i64 1)
  %y = call ptr @pointer_at(ptr %args, i64 2)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %bytes = call i64 @number_at(ptr %dims, i64 1)
  %rows = call i64 @number_at(ptr %dims, i64 2)
  %wrong = call i64 @out_of_range(ptr %index, i64 %n, i64 %rows)
  %fine = icmp eq i64 %wrong, 0
  br i1 %fine, label %head, label %end
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %body ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %end
body:
  %i = call i64 @number_at(ptr %index, i64 %k)
  %from = call ptr @advance(ptr %x, i64 %bytes, i64 %i)
  %to = call ptr @advance(ptr %y, i64 %bytes, i64 %k)
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %bytes, i1 false)
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 %wrong
}

define internal i64 @out_of_range(ptr %x, i64 %n, i64 %length) noinline {
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %body ]
  %wrong = phi i64 [ 0, %entry ], [ %now, %body ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %end
body:
  %i = call i64 @number_at(ptr %x, i64 %k)
  %out = icmp uge i64 %i, %length
  %one = zext i1 %out to i64
  %now = or i64 %wrong, %one
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 %wrong
}
