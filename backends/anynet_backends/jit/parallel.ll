; Work shared by OpenMP's threads. A floating-point exception that another thread than the calling one has met is raised in the calling one
; behind the work, so that who asks there whether one was raised hears of all.

declare i32 @feclearexcept(i32)
declare i32 @fetestexcept(i32)
declare i32 @feraiseexcept(i32)

; before a thread's part of the work: exceptions that it has from earlier work are none of this one
define internal void @begin(i32 %t) alwaysinline {
  %first = icmp eq i32 %t, 0
  br i1 %first, label %end, label %clear
clear:
  %cleared = call i32 @feclearexcept(i32 EXCEPTIONS)
  br label %end
end:
  ret void
}

; behind it: what the thread has met is added to a cell
define internal void @finish(i32 %t, ptr %raised) alwaysinline {
  %first = icmp eq i32 %t, 0
  br i1 %first, label %end, label %ask
ask:
  %found = call i32 @fetestexcept(i32 EXCEPTIONS)
  %none = icmp eq i32 %found, 0
  br i1 %none, label %end, label %tell
tell:
  %before = atomicrmw or ptr %raised, i32 %found monotonic
  br label %end
end:
  ret void
}

; raise what other threads have met
define internal void @raise(ptr %raised) alwaysinline {
  %found = load atomic i32, ptr %raised monotonic, align 4
  %none = icmp eq i32 %found, 0
  br i1 %none, label %end, label %do
do:
  %done = call i32 @feraiseexcept(i32 %found)
  br label %end
end:
  ret void
}

; a function on all threads of OpenMP, each with a part of the outermost axis: data = (function, data, arguments, axes,
; GOMP_parallel, omp_get_thread_num, omp_get_num_threads)
define i64 @parallel_loop(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %all = alloca [5 x ptr]
  %raised = alloca i32
  store i32 0, ptr %raised
  %p1 = getelementptr ptr, ptr %all, i64 1
  %p2 = getelementptr ptr, ptr %all, i64 2
  %p3 = getelementptr ptr, ptr %all, i64 3
  store ptr %args, ptr %all
  store ptr %dims, ptr %p1
  store ptr %steps, ptr %p2
  %p4 = getelementptr ptr, ptr %all, i64 4
  store ptr %data, ptr %p3
  store ptr %raised, ptr %p4
  %start = call ptr @pointer_at(ptr %data, i64 4)
  call void %start(ptr @parallel_loop_part, ptr %all, i32 0, i32 0)
  call void @raise(ptr %raised)
  ret i64 0
}

; one thread's part of that
define internal void @parallel_loop_part(ptr %all) {
entry:
  %places = alloca [OPERANDS x ptr]
  %sizes = alloca [AXES x i64]
  %args = call ptr @pointer_at(ptr %all, i64 0)
  %dims = call ptr @pointer_at(ptr %all, i64 1)
  %steps = call ptr @pointer_at(ptr %all, i64 2)
  %data = call ptr @pointer_at(ptr %all, i64 3)
  %raised = call ptr @pointer_at(ptr %all, i64 4)
  %f = call ptr @pointer_at(ptr %data, i64 0)
  %x = call ptr @pointer_at(ptr %data, i64 1)
  %n = call i64 @number_at(ptr %data, i64 2)
  %axes = call i64 @number_at(ptr %data, i64 3)
  %thread_num = call ptr @pointer_at(ptr %data, i64 5)
  %num_threads = call ptr @pointer_at(ptr %data, i64 6)
  %t32 = call i32 %thread_num()
  %m32 = call i32 %num_threads()
  %t = sext i32 %t32 to i64
  %m = sext i32 %m32 to i64
  %whole = call i64 @number_at(ptr %dims, i64 0)
  %a = mul i64 %whole, %t
  %from = sdiv i64 %a, %m
  %b = add i64 %a, %whole
  %to = sdiv i64 %b, %m
  %size = sub i64 %to, %from
  %some = icmp sgt i64 %size, 0
  br i1 %some, label %head, label %end
head:
  %i = phi i64 [ 0, %entry ], [ %inext, %operand ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %operand, label %axis
operand:
  %place = call ptr @pointer_at(ptr %args, i64 %i)
  %at = mul i64 %i, %axes
  %step = call i64 @number_at(ptr %steps, i64 %at)
  %moved = call ptr @advance(ptr %place, i64 %step, i64 %from)
  %lp = getelementptr ptr, ptr %places, i64 %i
  store ptr %moved, ptr %lp
  %inext = add i64 %i, 1
  br label %head
axis:
  %j = phi i64 [ 0, %head ], [ %jnext, %copy ]
  %left = icmp slt i64 %j, %axes
  br i1 %left, label %copy, label %run
copy:
  %d = call i64 @number_at(ptr %dims, i64 %j)
  %op = getelementptr i64, ptr %sizes, i64 %j
  store i64 %d, ptr %op
  %jnext = add i64 %j, 1
  br label %axis
run:
  store i64 %size, ptr %sizes
  call void @begin(i32 %t32)
  %done = call i64 %f(ptr %places, ptr %sizes, ptr %steps, ptr %x)
  call void @finish(i32 %t32, ptr %raised)
  br label %end
end:
  ret void
}

; parts of a table on all threads of OpenMP: of (table, bounds of the parts, parts, and these functions as above, what runs a table)
define void @run_parallel(ptr %data) {
  %all = alloca [2 x ptr]
  %raised = alloca i32
  store i32 0, ptr %raised
  %p1 = getelementptr ptr, ptr %all, i64 1
  store ptr %data, ptr %all
  store ptr %raised, ptr %p1
  %start = call ptr @pointer_at(ptr %data, i64 3)
  call void %start(ptr @run_parallel_part, ptr %all, i32 0, i32 0)
  call void @raise(ptr %raised)
  ret void
}

; parts of a table on all threads as one call: data as above
define i64 @parallel_table(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  call void @run_parallel(ptr %data)
  ret i64 0
}

; the parts of one thread
define internal void @run_parallel_part(ptr %all) {
entry:
  %data = call ptr @pointer_at(ptr %all, i64 0)
  %raised = call ptr @pointer_at(ptr %all, i64 1)
  %table = call ptr @pointer_at(ptr %data, i64 0)
  %bounds = call ptr @pointer_at(ptr %data, i64 1)
  %n = call i64 @number_at(ptr %data, i64 2)
  %thread_num = call ptr @pointer_at(ptr %data, i64 4)
  %num_threads = call ptr @pointer_at(ptr %data, i64 5)
  %run_table = call ptr @pointer_at(ptr %data, i64 6)
  %t32 = call i32 %thread_num()
  %m32 = call i32 %num_threads()
  %t = sext i32 %t32 to i64
  %m = sext i32 %m32 to i64
  call void @begin(i32 %t32)
  br label %head
head:
  %i = phi i64 [ %t, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %after = add i64 %i, 1
  %from = call i64 @number_at(ptr %bounds, i64 %i)
  %to = call i64 @number_at(ptr %bounds, i64 %after)
  %done = call i64 %run_table(ptr %table, i64 %from, i64 %to)
  %next = add i64 %i, %m
  br label %head
end:
  call void @finish(i32 %t32, ptr %raised)
  ret void
}
