; Elementary functions of float32. Without branches, tables and comparisons of floating-point numbers: LLVM makes vector code of loops
; over them, and they raise the floating-point exceptions that the functions have, no others. Every operation is IEEE 754's, the fused
; multiply-add one of them, so the bits are the same in each loop and on each processor that has it.
;
; Sources: J.-M. Muller et al., Handbook of Floating-Point Arithmetic (2018), chapter 11; W. J. Cody & W. Waite, Software Manual for the
; Elementary Functions (1980); the polynomials are those of S. L. Moshier's Cephes (log, tanh) and N. Shibata & F. Petrogalli's SLEEF (exp).

declare float @llvm.fma.f32(float, float, float)
declare float @llvm.sqrt.f32(float)
declare float @llvm.fabs.f32(float)
declare float @llvm.copysign.f32(float, float)

; x = n log 2 + r, |r| <= log 2 / 2, for |x| < 2^7: n as an integer, r, and e^r - 1
define internal { i32, float } @split_and_expm1(float %x) alwaysinline {
  %t = call float @llvm.fma.f32(float %x, float 0x3FF7154760000000, float 12582912.0) ; 1.5 * 2^23: rounds to an integer
  %f = fsub float %t, 12582912.0
  %ti = bitcast float %t to i32
  %n = sub i32 %ti, 1262485504
  %r1 = call float @llvm.fma.f32(float %f, float 0xBFE62E4300000000, float %x)
  %r = call float @llvm.fma.f32(float %f, float 0x3E205C6100000000, float %r1)
  %q1 = call float @llvm.fma.f32(float 0x3F2A057B40000000, float %r, float 0x3F56D2D920000000)
  %q2 = call float @llvm.fma.f32(float %q1, float %r, float 0x3F811114C0000000)
  %q3 = call float @llvm.fma.f32(float %q2, float %r, float 0x3FA5554F40000000)
  %q4 = call float @llvm.fma.f32(float %q3, float %r, float 0x3FC5555560000000)
  %q5 = call float @llvm.fma.f32(float %q4, float %r, float 0.5)
  %rr = fmul float %r, %r
  %p = call float @llvm.fma.f32(float %q5, float %rr, float %r)
  %a = insertvalue { i32, float } poison, i32 %n, 0
  %b = insertvalue { i32, float } %a, float %p, 1
  ret { i32, float } %b
}

; 2^n for -127 < n < 128
define internal float @power_of_two(i32 %n) alwaysinline {
  %biased = add i32 %n, 127
  %bits = shl i32 %biased, 23
  %y = bitcast i32 %bits to float
  ret float %y
}

; x within +-bound; 0 for infinities and NaN
define internal float @within_bound(float %x, float %bound) alwaysinline {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %most = bitcast float %bound to i32
  %large = icmp ugt i32 %size, %most
  %signed = call float @llvm.copysign.f32(float %bound, float %x)
  %y = select i1 %large, float %signed, float %x
  %finite = icmp ult i32 %size, 2139095040
  %z = select i1 %finite, float %y, float 0.0
  ret float %z
}

; `finite` for finite x, `below` for -inf, and x itself for +inf and NaN
define internal float @unless_special(float %x, float %finite, float %below) alwaysinline {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %lowest = icmp slt i32 %bits, -8388607 ; of those that are not finite. (`eq` would become a comparison of numbers)
  %special = select i1 %lowest, float %below, float %x
  %plain = icmp ult i32 %size, 2139095040
  %y = select i1 %plain, float %finite, float %special
  ret float %y
}

; x itself where |x| < 2^-25, which is the function to the last bit, and keeps the sign of zero
define internal float @unless_tiny(float %x, float %y) alwaysinline {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %tiny = icmp ult i32 %size, 855638016
  %z = select i1 %tiny, float %x, float %y
  ret float %z
}

; e^v = 2^n (1 + p) for |v| < 2^7. 2^n as two factors: only the last product rounds, overflows and underflows
define internal float @exp_between(float %v) alwaysinline {
  %np = call { i32, float } @split_and_expm1(float %v)
  %n = extractvalue { i32, float } %np, 0
  %p = extractvalue { i32, float } %np, 1
  %e = fadd float %p, 1.0
  %half = ashr i32 %n, 1
  %rest = sub i32 %n, %half
  %s1 = call float @power_of_two(i32 %half)
  %s2 = call float @power_of_two(i32 %rest)
  %y1 = fmul float %e, %s1
  %y2 = fmul float %y1, %s2
  ret float %y2
}

define internal float @an_exp(float %x) alwaysinline {
  %v = call float @within_bound(float %x, float 104.0)
  %e = call float @exp_between(float %v)
  %y = call float @unless_special(float %x, float %e, float 0.0)
  ret float %y
}

; 1 / (1 + e^-x) = s - s e / (1 + e) with e = e^-|x| <= 1, and s = 1 for positive x, e for negative ones: where s is small the quotient is,
; too, and so is what the rounding of 1 + e does to the result
define internal float @an_logistic(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %negative = icmp slt i32 %bits, 0
  %bound = select i1 %negative, i32 1120927744, i32 1118699520 ; 104, where e underflows, and 87, where 1 + e is 1
  %size = and i32 %bits, 2147483647
  %large = icmp ugt i32 %size, %bound ; infinities and NaN, too
  %most = select i1 %large, i32 %bound, i32 %size
  %minus = or i32 %most, -2147483648
  %v = bitcast i32 %minus to float
  %e = call float @exp_between(float %v)
  %s = select i1 %negative, float %e, float 1.0
  %below = fadd float %e, 1.0
  %q = fdiv float %e, %below
  %less = fneg float %s
  %y1 = call float @llvm.fma.f32(float %less, float %q, float %s)
  %nan = icmp ugt i32 %size, 2139095040
  %y = select i1 %nan, float %x, float %y1
  ret float %y
}

; e^v - 1 = 2 (2^(n-1) p + (2^(n-1) - 1/2)) for v from -20 to 88.8
define internal float @expm1_between(float %v) alwaysinline {
  %np = call { i32, float } @split_and_expm1(float %v)
  %n = extractvalue { i32, float } %np, 0
  %p = extractvalue { i32, float } %np, 1
  %less = sub i32 %n, 1
  %s = call float @power_of_two(i32 %less)
  %c = fsub float %s, 0.5
  %y = call float @llvm.fma.f32(float %s, float %p, float %c)
  %z = fmul float %y, 2.0
  ret float %z
}

define internal float @an_expm1(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %negative = icmp slt i32 %bits, 0
  %bound = select i1 %negative, float 20.0, float 0x4056333340000000
  %v = call float @within_bound(float %x, float %bound)
  %y1 = call float @expm1_between(float %v)
  %y2 = call float @unless_tiny(float %x, float %y1)
  %y = call float @unless_special(float %x, float %y2, float -1.0)
  ret float %y
}

; x + x^3 P(x^2) for |x| < 0.625; above that 1 - 2 / (e^(2 |x|) + 1), which is 1 from 9.02 on
define internal float @an_tanh(float %x) alwaysinline {
  %size = call float @llvm.fabs.f32(float %x)
  %v = call float @within_bound(float %size, float 10.0)
  %twice = fadd float %v, %v
  %e = call float @expm1_between(float %twice)
  %below = fadd float %e, 2.0
  %part = fdiv float 2.0, %below
  %t = fsub float 1.0, %part
  %z = fmul float %v, %v
  %p1 = call float @llvm.fma.f32(float %z, float 0xBF775E1D40000000, float 0x3F952269C0000000)
  %p2 = call float @llvm.fma.f32(float %p1, float %z, float 0xBFAB83C5A0000000)
  %p3 = call float @llvm.fma.f32(float %p2, float %z, float 0x3FC1107260000000)
  %p4 = call float @llvm.fma.f32(float %p3, float %z, float 0xBFD5555320000000)
  %zv = fmul float %z, %v
  %s = call float @llvm.fma.f32(float %zv, float %p4, float %v)
  %bits = bitcast float %x to i32
  %magnitude = and i32 %bits, 2147483647
  %low = icmp ult i32 %magnitude, 1059061760
  %y1 = select i1 %low, float %s, float %t
  %infinite = icmp uge i32 %magnitude, 2139095040
  %y2 = select i1 %infinite, float 1.0, float %y1
  %y3 = call float @llvm.copysign.f32(float %y2, float %x)
  %nan = icmp ugt i32 %magnitude, 2139095040
  %y = select i1 %nan, float %x, float %y3
  ret float %y
}

; log (u + c), u > 0 normal, c the rounding error of u: u = 2^e m, m from sqrt 1/2 to sqrt 2, and f = m - 1 + 2^-e c
define internal float @log_of_sum(float %u, float %c, i32 %more) alwaysinline {
  %bits = bitcast float %u to i32
  %over = sub i32 %bits, 1060439283
  %e = ashr i32 %over, 23
  %shift = shl i32 %e, 23
  %mbits = sub i32 %bits, %shift
  %m = bitcast i32 %mbits to float
  %m1 = fsub float %m, 1.0
  %minus = sub i32 0, %e
  %half = ashr i32 %minus, 1
  %rest = sub i32 %minus, %half
  %s1 = call float @power_of_two(i32 %half)
  %s2 = call float @power_of_two(i32 %rest)
  %c1 = fmul float %c, %s1
  %c2 = fmul float %c1, %s2
  %f = fadd float %m1, %c2
  %exponent = sub i32 %e, %more
  %k = sitofp i32 %exponent to float
  %p1 = call float @llvm.fma.f32(float 0x3FB2043760000000, float %f, float 0xBFBD7A3700000000)
  %p2 = call float @llvm.fma.f32(float %p1, float %f, float 0x3FBDE4A340000000)
  %p3 = call float @llvm.fma.f32(float %p2, float %f, float 0xBFBFCBA9E0000000)
  %p4 = call float @llvm.fma.f32(float %p3, float %f, float 0x3FC23D37E0000000)
  %p5 = call float @llvm.fma.f32(float %p4, float %f, float 0xBFC555CA00000000)
  %p6 = call float @llvm.fma.f32(float %p5, float %f, float 0x3FC999D580000000)
  %p7 = call float @llvm.fma.f32(float %p6, float %f, float 0xBFCFFFFF80000000)
  %p8 = call float @llvm.fma.f32(float %p7, float %f, float 0x3FD5555540000000)
  %ff = fmul float %f, %f
  %fff = fmul float %ff, %f
  %low = fmul float %k, 0xBF2BD01060000000
  %y1 = call float @llvm.fma.f32(float %fff, float %p8, float %low)
  %y2 = call float @llvm.fma.f32(float -0.5, float %ff, float %y1)
  %y3 = fadd float %f, %y2
  %y = call float @llvm.fma.f32(float %k, float 0x3FE6300000000000, float %y3)
  ret float %y
}

; y, but -inf where v = 0 (division by zero) and NaN where v < 0 (invalid), v finite or -inf where `outside` holds
define internal float @unless_outside(i1 %outside, float %v, float %y) alwaysinline {
  %w = select i1 %outside, float %v, float 1.0
  %root = call float @llvm.sqrt.f32(float %w)
  %size = call float @llvm.fabs.f32(float %root)
  %bad = fdiv float -1.0, %size
  %z = select i1 %outside, float %bad, float %y
  ret float %z
}

define internal float @an_log(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %zero = icmp eq i32 %size, 0
  %ordered = icmp ule i32 %size, 2139095040
  %negative = icmp slt i32 %bits, 0
  %below = and i1 %negative, %ordered
  %outside = or i1 %zero, %below
  %positive = icmp sgt i32 %bits, 0
  %small = icmp ult i32 %size, 8388608
  %finite = icmp ult i32 %size, 2139095040
  %good = and i1 %positive, %finite
  %v = select i1 %good, float %x, float 1.0
  %scale = select i1 %small, float 8388608.0, float 1.0
  %more = select i1 %small, i32 23, i32 0
  %u = fmul float %v, %scale
  %y1 = call float @log_of_sum(float %u, float 0.0, i32 %more)
  %y2 = call float @unless_outside(i1 %outside, float %x, float %y1)
  %plain = or i1 %good, %outside
  %y = select i1 %plain, float %y2, float %x
  ret float %y
}

define internal float @an_log1p(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %size = and i32 %bits, 2147483647
  %ordered = icmp ule i32 %size, 2139095040
  %finite = icmp ult i32 %size, 2139095040
  %low = icmp uge i32 %bits, 3212836864
  %outside = and i1 %low, %ordered
  %inside = xor i1 %outside, true
  %good = and i1 %inside, %finite
  %v = select i1 %good, float %x, float 0.0
  %u = fadd float %v, 1.0
  %b = fsub float %u, 1.0
  %a = fsub float %u, %b
  %c1 = fsub float 1.0, %a
  %c2 = fsub float %v, %b
  %c = fadd float %c1, %c2
  %y1 = call float @log_of_sum(float %u, float %c, i32 0)
  %y2 = call float @unless_tiny(float %x, float %y1)
  %w = select i1 %outside, float %x, float 0.0
  %w1 = fadd float %w, 1.0
  %y3 = call float @unless_outside(i1 %outside, float %w1, float %y2)
  %plain = or i1 %good, %outside
  %y = select i1 %plain, float %y3, float %x
  ret float %y
}
