
; 0 where all n numbers are finite, else 1: args = (x), dims = (n); a number whose exponent has all bits set is infinite or NaN.
; BITS is an integer as wide as the number, EXPONENT these bits of it, LETTER the type in NumPy
define i64 @not_finite_LETTER(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %x = call ptr @pointer_at(ptr %args, i64 0)
  %n = call i64 @number_at(ptr %dims, i64 0)
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %found = phi i1 [ false, %entry ], [ %now, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %place = getelementptr BITS, ptr %x, i64 %i
  %number = load BITS, ptr %place
  %exponent = and BITS %number, EXPONENT
  %bad = icmp eq BITS %exponent, EXPONENT
  %now = or i1 %found, %bad
  %next = add i64 %i, 1
  br label %head
end:
  %status = zext i1 %found to i64
  ret i64 %status
}
