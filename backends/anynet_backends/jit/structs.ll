; Reading the words of a struct or a table. The text of every module that needs them begins with these functions.

; the pointer that is word i of p
define internal ptr @pointer_at(ptr %p, i64 %i) alwaysinline {
  %place = getelementptr ptr, ptr %p, i64 %i
  %word = load ptr, ptr %place
  ret ptr %word
}

; the number that is word i of p
define internal i64 @number_at(ptr %p, i64 %i) alwaysinline {
  %place = getelementptr i64, ptr %p, i64 %i
  %word = load i64, ptr %place
  ret i64 %word
}

; p moved on by k strides of so many bytes
define internal ptr @advance(ptr %p, i64 %stride, i64 %k) alwaysinline {
  %distance = mul i64 %stride, %k
  %place = getelementptr i8, ptr %p, i64 %distance
  ret ptr %place
}

; the address of an array's data: word 2 of PyArrayObject
define internal ptr @data_of(ptr %array) alwaysinline {
  %data = call ptr @pointer_at(ptr %array, i64 2)
  ret ptr %data
}

declare ptr @PyLong_FromLongLong(i64)
