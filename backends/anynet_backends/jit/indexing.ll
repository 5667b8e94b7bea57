; Reading and writing by lists of indices, for numbers of one type: TYPE in LLVM, LETTER in NumPy.

; values[k] = x[i[k], j[k]]: args = (x, i, j, values), dims = (n, rows, columns), steps = (of x, of x, of values);
; returns 1, and nothing has happened, where an index is not in range
define i64 @gather_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %status = call i64 @copy_indexed_LETTER(ptr %args, ptr %dims, ptr %steps, i1 false)
  ret i64 %status
}

; x[i[k], j[k]] = values[k], likewise
define i64 @scatter_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %status = call i64 @copy_indexed_LETTER(ptr %args, ptr %dims, ptr %steps, i1 true)
  ret i64 %status
}

define internal i64 @copy_indexed_LETTER(ptr %args, ptr %dims, ptr %steps, i1 %scatter) alwaysinline {
entry:
  %x = call ptr @pointer_at(ptr %args, i64 0)
  %is = call ptr @pointer_at(ptr %args, i64 1)
  %js = call ptr @pointer_at(ptr %args, i64 2)
  %values = call ptr @pointer_at(ptr %args, i64 3)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %rows = call i64 @number_at(ptr %dims, i64 1)
  %columns = call i64 @number_at(ptr %dims, i64 2)
  %down = call i64 @number_at(ptr %steps, i64 0)
  %right = call i64 @number_at(ptr %steps, i64 1)
  %step = call i64 @number_at(ptr %steps, i64 2)
  %wrong_i = call i64 @out_of_range(ptr %is, i64 %n, i64 %rows)
  %wrong_j = call i64 @out_of_range(ptr %js, i64 %n, i64 %columns)
  %wrong = or i64 %wrong_i, %wrong_j
  %fine = icmp eq i64 %wrong, 0
  br i1 %fine, label %head, label %end
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %body ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %end
body:
  %i = call i64 @number_at(ptr %is, i64 %k)
  %j = call i64 @number_at(ptr %js, i64 %k)
  %row = call ptr @advance(ptr %x, i64 %down, i64 %i)
  %element = call ptr @advance(ptr %row, i64 %right, i64 %j)
  %value = call ptr @advance(ptr %values, i64 %step, i64 %k)
  %source = select i1 %scatter, ptr %value, ptr %element
  %target = select i1 %scatter, ptr %element, ptr %value
  %v = load TYPE, ptr %source
  store TYPE %v, ptr %target
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 %wrong
}

; y[index[k]] += values[k] for the rows of y, one after the other: args = (y, index, values), dims = (n, width); the indices are
; known to be in range
define i64 @add_rows_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %y = call ptr @pointer_at(ptr %args, i64 0)
  %index = call ptr @pointer_at(ptr %args, i64 1)
  %values = call ptr @pointer_at(ptr %args, i64 2)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %width = call i64 @number_at(ptr %dims, i64 1)
  call void @add_to_rows_LETTER(ptr %y, ptr %index, ptr %values, ptr %index, i64 %n, i64 %width, i1 false)
  ret i64 0
}

; y = 0, and then the same: args = (values, index, y), dims = (n, width, rows of y); returns 1, and nothing has happened, where an index
; is not in range
define i64 @sum_rows_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %values = call ptr @pointer_at(ptr %args, i64 0)
  %index = call ptr @pointer_at(ptr %args, i64 1)
  %y = call ptr @pointer_at(ptr %args, i64 2)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %width = call i64 @number_at(ptr %dims, i64 1)
  %rows = call i64 @number_at(ptr %dims, i64 2)
  %wrong = call i64 @out_of_range(ptr %index, i64 %n, i64 %rows)
  %fine = icmp eq i64 %wrong, 0
  br i1 %fine, label %work, label %end
work:
  call void @set_zero_LETTER(ptr %y, i64 %rows, i64 %width)
  call void @add_to_rows_LETTER(ptr %y, ptr %index, ptr %values, ptr %index, i64 %n, i64 %width, i1 false)
  br label %end
end:
  ret i64 %wrong
}

; y = 0, and then y[index[k]] += x[source[k]], likewise: args = (x, source, index, y), dims = (n, width, rows of y, rows of x)
define i64 @sum_taken_rows_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %x = call ptr @pointer_at(ptr %args, i64 0)
  %source = call ptr @pointer_at(ptr %args, i64 1)
  %index = call ptr @pointer_at(ptr %args, i64 2)
  %y = call ptr @pointer_at(ptr %args, i64 3)
  %n = call i64 @number_at(ptr %dims, i64 0)
  %width = call i64 @number_at(ptr %dims, i64 1)
  %rows = call i64 @number_at(ptr %dims, i64 2)
  %rows_x = call i64 @number_at(ptr %dims, i64 3)
  %wrong_y = call i64 @out_of_range(ptr %index, i64 %n, i64 %rows)
  %wrong_x = call i64 @out_of_range(ptr %source, i64 %n, i64 %rows_x)
  %wrong = or i64 %wrong_y, %wrong_x
  %fine = icmp eq i64 %wrong, 0
  br i1 %fine, label %work, label %end
work:
  call void @set_zero_LETTER(ptr %y, i64 %rows, i64 %width)
  call void @add_to_rows_LETTER(ptr %y, ptr %index, ptr %x, ptr %source, i64 %n, i64 %width, i1 true)
  br label %end
end:
  ret i64 %wrong
}

define internal void @set_zero_LETTER(ptr %y, i64 %rows, i64 %width) {
  %count = mul i64 %rows, %width
  %end = getelementptr TYPE, ptr %y, i64 %count
  %from = ptrtoint ptr %y to i64
  %to = ptrtoint ptr %end to i64
  %bytes = sub i64 %to, %from
  call void @llvm.memset.p0.i64(ptr %y, i8 0, i64 %bytes, i1 false)
  ret void
}

; y[index[k]] += x[source[k]], or x[k] where they are not taken
define internal void @add_to_rows_LETTER(ptr %y, ptr %index, ptr %x, ptr %source, i64 %n, i64 %width, i1 %taken) alwaysinline {
entry:
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %add ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %add, label %end
add:
  %j = call i64 @number_at(ptr %index, i64 %k)
  %at = call i64 @number_at(ptr %source, i64 %k)
  %i = select i1 %taken, i64 %at, i64 %k
  %yo = mul i64 %j, %width
  %xo = mul i64 %i, %width
  %yr = getelementptr TYPE, ptr %y, i64 %yo
  %xr = getelementptr TYPE, ptr %x, i64 %xo
  call void @add_row_LETTER(ptr %yr, ptr %xr, i64 %width)
  %kn = add i64 %k, 1
  br label %head
end:
  ret void
}

define internal void @add_row_LETTER(ptr noalias %y, ptr noalias %v, i64 %n) {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %yp = getelementptr TYPE, ptr %y, i64 %i
  %vp = getelementptr TYPE, ptr %v, i64 %i
  %a = load TYPE, ptr %yp
  %b = load TYPE, ptr %vp
  %c = fadd TYPE %a, %b
  store TYPE %c, ptr %yp
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
