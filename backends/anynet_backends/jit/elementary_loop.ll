; The elementary function FUNCTION, which elementary.ll defines, as the inner loop of a ufunc.

define internal void @row(i64 %n, ptr noalias nocapture %x, ptr noalias nocapture %y) {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %from = getelementptr inbounds float, ptr %x, i64 %i
  %to = getelementptr inbounds float, ptr %y, i64 %i
  %v = load float, ptr %from, align 4
  %w = call float @an_FUNCTION(float %v)
  store float %w, ptr %to, align 4
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end, !llvm.loop !0
end:
  ret void
}

; n floats between memory with strides
define internal void @copy(i64 %n, ptr %x, i64 %sx, ptr %y, i64 %sy) {
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %ox = mul i64 %i, %sx
  %oy = mul i64 %i, %sy
  %from = getelementptr i8, ptr %x, i64 %ox
  %to = getelementptr i8, ptr %y, i64 %oy
  %v = load float, ptr %from, align 4
  store float %v, ptr %to, align 4
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end, !llvm.loop !3
end:
  ret void
}

; the inner loop of a ufunc: floats that are not neighbours go through a buffer
define void @inner_loop(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %room = alloca [256 x float], align 32
  %n = load i64, ptr %dims
  %x = load ptr, ptr %args
  %yp = getelementptr ptr, ptr %args, i64 1
  %y = load ptr, ptr %yp
  %sx = load i64, ptr %steps
  %syp = getelementptr i64, ptr %steps, i64 1
  %sy = load i64, ptr %syp
  %a = icmp eq i64 %sx, 4
  %b = icmp eq i64 %sy, 4
  %neighbours = and i1 %a, %b
  br i1 %neighbours, label %whole, label %head
whole:
  call void @row(i64 %n, ptr %x, ptr %y)
  ret void
head:
  %i = phi i64 [ 0, %entry ], [ %next, %part ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %part, label %end
part:
  %left = sub i64 %n, %i
  %last = icmp slt i64 %left, 256
  %m = select i1 %last, i64 %left, i64 256
  %ox = mul i64 %i, %sx
  %oy = mul i64 %i, %sy
  %from = getelementptr i8, ptr %x, i64 %ox
  %to = getelementptr i8, ptr %y, i64 %oy
  call void @copy(i64 %m, ptr %from, i64 %sx, ptr %room, i64 4)
  call void @row(i64 %m, ptr %room, ptr %room)
  call void @copy(i64 %m, ptr %room, i64 4, ptr %to, i64 %sy)
  %next = add i64 %i, 256
  br label %head
end:
  ret void
}

!0 = distinct !{!0, !1, !2}
!1 = !{!"llvm.loop.unroll.disable"}
!2 = !{!"llvm.loop.interleave.count", i32 1}
!3 = distinct !{!3, !1, !4}
!4 = !{!"llvm.loop.vectorize.enable", i1 false}
