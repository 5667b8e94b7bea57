; Compiled programs as built-in functions of Python: they look at arrays as they lie in memory (PyArrayObject), make the results, enter
; the addresses into the table of calls, and run it.
;
; A plan is a record of words:
;    0  the next plan, or null             6  relocations: (address of the cell, array, offset in bytes) …
;    1  number of arguments                7  number of results
;    2  forms of the arguments             8  forms of the results: (dtype, axes, shape, strides or null) …
;    3  table of calls                     9  the type numpy.ndarray
;    4  number of its rows                10  PyArray_NewFromDescr
;    5  number of relocations             11  the PyMethodDef of the pullback, or null
;   12  holder of the plan of the backward pass
;   13  number of arrays that are kept or returned     14  their numbers: arguments, then results; -1 for None
;   15  the function that runs a table    16  None      17  number of outputs: the first results
;   18  number of gradients: of a backward pass, the last arguments, with null as the form of those that are not read
;   19  the type tuple

declare i32 @feclearexcept(i32)
declare i32 @fetestexcept(i32)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare ptr @PyCFunction_NewEx(ptr, ptr, ptr)
declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)

; item i of a tuple
define internal ptr @item_of(ptr %tuple, i64 %i) alwaysinline {
  %items = getelementptr i8, ptr %tuple, i64 ITEMS
  %item = call ptr @pointer_at(ptr %items, i64 %i)
  ret ptr %item
}

; whether x is of exactly this type
define internal i1 @is_a(ptr %x, ptr %type) alwaysinline {
  %own = call ptr @pointer_at(ptr %x, i64 1)
  %same = icmp eq ptr %own, %type
  ret i1 %same
}

; whether x is an array of a form: (dtype, axes, lengths …, strides …); the stride of an axis of length 1 says nothing
define internal i1 @matches(ptr %x, ptr %form, ptr %type) {
entry:
  %array = call i1 @is_a(ptr %x, ptr %type)
  br i1 %array, label %describe, label %no
describe:
  %dtype = call ptr @pointer_at(ptr %x, i64 7)
  %wanted_dtype = call ptr @pointer_at(ptr %form, i64 0)
  %same = icmp eq ptr %dtype, %wanted_dtype
  %np = getelementptr i8, ptr %x, i64 24
  %n32 = load i32, ptr %np
  %n = sext i32 %n32 to i64
  %wanted_n = call i64 @number_at(ptr %form, i64 1)
  %axes = icmp eq i64 %n, %wanted_n
  %fp = getelementptr i8, ptr %x, i64 64
  %flags = load i32, ptr %fp
  %aligned32 = and i32 %flags, 256
  %aligned = icmp ne i32 %aligned32, 0
  %ok1 = and i1 %same, %axes
  %ok = and i1 %ok1, %aligned
  br i1 %ok, label %start, label %no
start:
  %shape = call ptr @pointer_at(ptr %x, i64 4)
  %strides = call ptr @pointer_at(ptr %x, i64 5)
  %wanted_shape = getelementptr i64, ptr %form, i64 2
  %wanted_strides = getelementptr i64, ptr %wanted_shape, i64 %n
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %axis ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %axis, label %yes
axis:
  %length = call i64 @number_at(ptr %shape, i64 %i)
  %wanted_length = call i64 @number_at(ptr %wanted_shape, i64 %i)
  %stride = call i64 @number_at(ptr %strides, i64 %i)
  %wanted_stride = call i64 @number_at(ptr %wanted_strides, i64 %i)
  %eq1 = icmp eq i64 %length, %wanted_length
  %eq2 = icmp eq i64 %stride, %wanted_stride
  %single = icmp eq i64 %length, 1
  %anywhere = or i1 %eq2, %single
  %eq = and i1 %eq1, %anywhere
  %next = add i64 %i, 1
  br i1 %eq, label %head, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

; a new array of a form: (dtype, axes, shape, strides or null)
define internal ptr @new_array(ptr %plan, ptr %form) alwaysinline {
  %type = call ptr @pointer_at(ptr %plan, i64 9)
  %new = call ptr @pointer_at(ptr %plan, i64 10)
  %dtype = call ptr @pointer_at(ptr %form, i64 0)
  %axes64 = call i64 @number_at(ptr %form, i64 1)
  %axes = trunc i64 %axes64 to i32
  %shape = call ptr @pointer_at(ptr %form, i64 2)
  %strides = call ptr @pointer_at(ptr %form, i64 3)
  call void @Py_IncRef(ptr %dtype)
  %made = call ptr %new(ptr %type, ptr %dtype, i32 %axes, ptr %shape, ptr %strides, ptr null, i32 0, ptr null)
  ret ptr %made
}

; run a plan: the results into objects[arguments …], which holds the arguments already; 0: done, 1: nothing has happened, since
; a call has refused its arguments or a floating-point exception was raised, 2: an error
define internal i64 @execute(ptr %plan, ptr %objects) {
entry:
  %data = alloca [MOST x ptr]
  %nargs = call i64 @number_at(ptr %plan, i64 1)
  %nouts = call i64 @number_at(ptr %plan, i64 7)
  %forms = call ptr @pointer_at(ptr %plan, i64 8)
  br label %ahead
ahead:
  %i = phi i64 [ 0, %entry ], [ %inext, %argument ]
  %amore = icmp slt i64 %i, %nargs
  br i1 %amore, label %argument, label %ohead
argument:
  %x = call ptr @pointer_at(ptr %objects, i64 %i)
  %xdata = call ptr @data_of(ptr %x)
  %xplace = getelementptr ptr, ptr %data, i64 %i
  store ptr %xdata, ptr %xplace
  %inext = add i64 %i, 1
  br label %ahead
ohead:
  %j = phi i64 [ 0, %ahead ], [ %jnext, %made ]
  %omore = icmp slt i64 %j, %nouts
  br i1 %omore, label %output, label %relocate
output:
  %form = call ptr @advance(ptr %forms, i64 32, i64 %j)
  %o = call ptr @new_array(ptr %plan, ptr %form)
  %slot = add i64 %nargs, %j
  %op = getelementptr ptr, ptr %objects, i64 %slot
  store ptr %o, ptr %op
  %bad = icmp eq ptr %o, null
  br i1 %bad, label %undo, label %made
made:
  %odata = call ptr @data_of(ptr %o)
  %oplace = getelementptr ptr, ptr %data, i64 %slot
  store ptr %odata, ptr %oplace
  %jnext = add i64 %j, 1
  br label %ohead
relocate:
  %nrelocations = call i64 @number_at(ptr %plan, i64 5)
  %relocations = call ptr @pointer_at(ptr %plan, i64 6)
  br label %rhead
rhead:
  %k = phi i64 [ 0, %relocate ], [ %knext, %rbody ]
  %rmore = icmp slt i64 %k, %nrelocations
  br i1 %rmore, label %rbody, label %run
rbody:
  %relocation = call ptr @advance(ptr %relocations, i64 24, i64 %k)
  %cell = call ptr @pointer_at(ptr %relocation, i64 0)
  %array = call i64 @number_at(ptr %relocation, i64 1)
  %offset = call i64 @number_at(ptr %relocation, i64 2)
  %base = call ptr @pointer_at(ptr %data, i64 %array)
  %address = getelementptr i8, ptr %base, i64 %offset
  store ptr %address, ptr %cell
  %knext = add i64 %k, 1
  br label %rhead
run:
  %table = call ptr @pointer_at(ptr %plan, i64 3)
  %count = call i64 @number_at(ptr %plan, i64 4)
  %run_table = call ptr @pointer_at(ptr %plan, i64 15)
  %raised = call i32 @fetestexcept(i32 EXCEPTIONS)
  %before = icmp ne i32 %raised, 0
  br i1 %before, label %clear, label %go
clear:
  %cleared = call i32 @feclearexcept(i32 EXCEPTIONS)
  br label %go
go:
  %done = call i64 %run_table(ptr %table, i64 0, i64 %count)
  %whole = icmp eq i64 %done, %count
  %now = call i32 @fetestexcept(i32 EXCEPTIONS)
  %quiet = icmp eq i32 %now, 0
  %fine = and i1 %whole, %quiet
  br i1 %fine, label %end, label %refused
end:
  ret i64 0
refused:
  %cleared2 = call i32 @feclearexcept(i32 EXCEPTIONS)
  br label %undo
undo:
  %status = phi i64 [ 2, %output ], [ 1, %refused ]
  %made_so_far = phi i64 [ %j, %output ], [ %nouts, %refused ]
  call void @release(ptr %plan, ptr %objects, i64 %made_so_far)
  ret i64 %status
}

; drop the references to the first n results
define internal void @release(ptr %plan, ptr %objects, i64 %n) {
entry:
  %nargs = call i64 @number_at(ptr %plan, i64 1)
  %last = add i64 %nargs, %n
  br label %head
head:
  %i = phi i64 [ %nargs, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %body, label %end
body:
  %x = call ptr @pointer_at(ptr %objects, i64 %i)
  call void @Py_DecRef(ptr %x)
  %next = add i64 %i, 1
  br label %head
end:
  ret void
}

; a tuple of the arrays that a plan keeps or returns; `from`: the first place that is filled
define internal ptr @collect(ptr %objects, ptr %plan, i64 %from) {
entry:
  %n = call i64 @number_at(ptr %plan, i64 13)
  %numbers = call ptr @pointer_at(ptr %plan, i64 14)
  %none = call ptr @pointer_at(ptr %plan, i64 16)
  %size = add i64 %n, %from
  %made = call ptr @PyTuple_New(i64 %size)
  %bad = icmp eq ptr %made, null
  br i1 %bad, label %end, label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %set ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %number = call i64 @number_at(ptr %numbers, i64 %i)
  %absent = icmp slt i64 %number, 0
  br i1 %absent, label %set, label %present
present:
  %x = call ptr @pointer_at(ptr %objects, i64 %number)
  br label %set
set:
  %item = phi ptr [ %none, %body ], [ %x, %present ]
  call void @Py_IncRef(ptr %item)
  %at = add i64 %i, %from
  %status = call i32 @PyTuple_SetItem(ptr %made, i64 %at, ptr %item)
  %next = add i64 %i, 1
  br label %head
end:
  ret ptr %made
}

; the outputs of a plan: the first result, or a tuple of several
define internal ptr @outputs(ptr %objects, ptr %plan) {
entry:
  %nargs = call i64 @number_at(ptr %plan, i64 1)
  %first = getelementptr ptr, ptr %objects, i64 %nargs
  %count = call i64 @number_at(ptr %plan, i64 17)
  %one = icmp eq i64 %count, 1
  br i1 %one, label %single, label %several
single:
  %y = call ptr @pointer_at(ptr %first, i64 0)
  call void @Py_IncRef(ptr %y)
  ret ptr %y
several:
  %made = call ptr @PyTuple_New(i64 %count)
  %bad = icmp eq ptr %made, null
  br i1 %bad, label %end, label %head
head:
  %i = phi i64 [ 0, %several ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %end
body:
  %x = call ptr @pointer_at(ptr %first, i64 %i)
  call void @Py_IncRef(ptr %x)
  %status = call i32 @PyTuple_SetItem(ptr %made, i64 %i, ptr %x)
  %next = add i64 %i, 1
  br label %head
end:
  ret ptr %made
}

; the pullback of a plan that has been run: a function whose self is (holder of the backward plan, kept arrays …); null: an error
define internal ptr @bind_pullback(ptr %plan, ptr %objects) {
entry:
  %state = call ptr @collect(ptr %objects, ptr %plan, i64 1)
  %lost = icmp eq ptr %state, null
  br i1 %lost, label %error, label %bind
bind:
  %definition = call ptr @pointer_at(ptr %plan, i64 11)
  %holder = call ptr @pointer_at(ptr %plan, i64 12)
  call void @Py_IncRef(ptr %holder)
  %set = call i32 @PyTuple_SetItem(ptr %state, i64 0, ptr %holder)
  %bound = call ptr @PyCFunction_NewEx(ptr %definition, ptr %state, ptr null)
  call void @Py_DecRef(ptr %state)
  ret ptr %bound
error:
  ret ptr null
}

; (arguments …) -> result, or (result, pullback), or (tuple of results, pullback or None); None where no plan matches or the one that
; does has not run. self: (array of the address of the first plan and of None, …)
define ptr @dispatch(ptr %self, ptr %args, i64 %n) {
entry:
  %objects = alloca [MOST x ptr]
  %holder = call ptr @item_of(ptr %self, i64 0)
  %cells = call ptr @data_of(ptr %holder)
  %first = call ptr @pointer_at(ptr %cells, i64 0)
  %none = call ptr @pointer_at(ptr %cells, i64 1)
  br label %head
head:
  %plan = phi ptr [ %first, %entry ], [ %following, %next ]
  %last = icmp eq ptr %plan, null
  br i1 %last, label %unknown, label %ask
ask:
  %nargs = call i64 @number_at(ptr %plan, i64 1)
  %forms = call ptr @pointer_at(ptr %plan, i64 2)
  %type = call ptr @pointer_at(ptr %plan, i64 9)
  %as_many = icmp eq i64 %nargs, %n
  br i1 %as_many, label %argument, label %next
argument:
  %i = phi i64 [ 0, %ask ], [ %inext, %good ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %compare, label %found
compare:
  %x = call ptr @pointer_at(ptr %args, i64 %i)
  %form = call ptr @pointer_at(ptr %forms, i64 %i)
  %match = call i1 @matches(ptr %x, ptr %form, ptr %type)
  br i1 %match, label %good, label %next
good:
  %op = getelementptr ptr, ptr %objects, i64 %i
  store ptr %x, ptr %op
  %inext = add i64 %i, 1
  br label %argument
next:
  %following = call ptr @pointer_at(ptr %plan, i64 0)
  br label %head
found:
  %status = call i64 @execute(ptr %plan, ptr %objects)
  switch i64 %status, label %unknown [ i64 0, label %done i64 2, label %error ]
done:
  %nouts = call i64 @number_at(ptr %plan, i64 7)
  %y = call ptr @outputs(ptr %objects, ptr %plan)
  %lost_y = icmp eq ptr %y, null
  br i1 %lost_y, label %drop, label %kind
kind:
  %definition = call ptr @pointer_at(ptr %plan, i64 11)
  %no_pullback = icmp eq ptr %definition, null
  %many = call i64 @number_at(ptr %plan, i64 17)
  %one = icmp eq i64 %many, 1
  %plain = and i1 %no_pullback, %one
  br i1 %plain, label %single, label %double
single:
  call void @release(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %y
double:
  br i1 %no_pullback, label %bare, label %bind
bare:
  call void @Py_IncRef(ptr %none)
  br label %pair
bind:
  %bound = call ptr @bind_pullback(ptr %plan, ptr %objects)
  %lost_bound = icmp eq ptr %bound, null
  br i1 %lost_bound, label %drop_y, label %pair
pair:
  %pullback = phi ptr [ %none, %bare ], [ %bound, %bind ]
  %both = call ptr @PyTuple_New(i64 2)
  %lost_both = icmp eq ptr %both, null
  br i1 %lost_both, label %drop_pullback, label %fill
fill:
  %set_y = call i32 @PyTuple_SetItem(ptr %both, i64 0, ptr %y)
  %set_pullback = call i32 @PyTuple_SetItem(ptr %both, i64 1, ptr %pullback)
  call void @release(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %both
drop_pullback:
  call void @Py_DecRef(ptr %pullback)
  br label %drop_y
drop_y:
  call void @Py_DecRef(ptr %y)
  br label %drop
drop:
  call void @release(ptr %plan, ptr %objects, i64 %nouts)
  br label %error
error:
  ret ptr null
unknown:
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}

; (gradient, or a tuple of several) -> gradients of the inputs. self: (holder, kept …), holder: (array that is the first plan, what to
; call in other cases, …). Behind the first plan are those for gradients that lie in memory in other ways
define ptr @pullback(ptr %self, ptr %g) {
entry:
  %objects = alloca [MOST x ptr]
  %one = alloca ptr
  %holder = call ptr @item_of(ptr %self, i64 0)
  %array = call ptr @item_of(ptr %holder, i64 0)
  %origin = call ptr @data_of(ptr %array)
  %nargs = call i64 @number_at(ptr %origin, i64 1)
  %type = call ptr @pointer_at(ptr %origin, i64 9)
  %count = call i64 @number_at(ptr %origin, i64 18)
  %tuple_type = call ptr @pointer_at(ptr %origin, i64 19)
  %n = sub i64 %nargs, %count
  store ptr %g, ptr %one
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %ask
body:
  %next = add i64 %i, 1
  %x = call ptr @item_of(ptr %self, i64 %next)
  %op = getelementptr ptr, ptr %objects, i64 %i
  store ptr %x, ptr %op
  br label %head
ask:
  %single = icmp eq i64 %count, 1
  br i1 %single, label %gradients, label %several
several:
  %items = getelementptr i8, ptr %g, i64 ITEMS
  %packed = call i1 @is_a(ptr %g, ptr %tuple_type)
  br i1 %packed, label %measure, label %other
measure:
  %length = call i64 @number_at(ptr %g, i64 2)
  %as_many = icmp eq i64 %length, %count
  br i1 %as_many, label %gradients, label %other
gradients:
  %gs = phi ptr [ %one, %ask ], [ %items, %measure ]
  br label %try
try:
  %plan = phi ptr [ %origin, %gradients ], [ %following, %elsewhere ]
  %forms = call ptr @pointer_at(ptr %plan, i64 2)
  br label %ghead
ghead:
  %j = phi i64 [ 0, %try ], [ %jnext, %good ]
  %gmore = icmp slt i64 %j, %count
  br i1 %gmore, label %gradient, label %run
gradient:
  %gj = call ptr @pointer_at(ptr %gs, i64 %j)
  %at = add i64 %n, %j
  %gp = getelementptr ptr, ptr %objects, i64 %at
  store ptr %gj, ptr %gp
  %form = call ptr @pointer_at(ptr %forms, i64 %at)
  %unread = icmp eq ptr %form, null
  br i1 %unread, label %any, label %read
any:
  %array_too = call i1 @is_a(ptr %gj, ptr %type)
  br i1 %array_too, label %good, label %elsewhere
read:
  %match = call i1 @matches(ptr %gj, ptr %form, ptr %type)
  br i1 %match, label %good, label %elsewhere
elsewhere:
  %following = call ptr @pointer_at(ptr %plan, i64 0)
  %last = icmp eq ptr %following, null
  br i1 %last, label %other, label %try
good:
  %jnext = add i64 %j, 1
  br label %ghead
run:
  %status = call i64 @execute(ptr %plan, ptr %objects)
  switch i64 %status, label %other [ i64 0, label %done i64 2, label %error ]
done:
  %nouts = call i64 @number_at(ptr %plan, i64 7)
  %result = call ptr @collect(ptr %objects, ptr %plan, i64 0)
  call void @release(ptr %plan, ptr %objects, i64 %nouts)
  ret ptr %result
other:
  %else = call ptr @item_of(ptr %holder, i64 1)
  %answer = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %else, ptr %self, ptr %g, ptr null)
  ret ptr %answer
error:
  ret ptr null
}

; (arrays …) -> what a primitive of oneDNN returns, or -1 where one is no array. self: (array of: number of arrays, their type, the
; function `onednn` of runtime.ll, its data)
define ptr @primitive(ptr %self, ptr %args, i64 %n) {
entry:
  %data = alloca [MOST x ptr]
  %holder = call ptr @item_of(ptr %self, i64 0)
  %cells = call ptr @data_of(ptr %holder)
  %count = call i64 @number_at(ptr %cells, i64 0)
  %type = call ptr @pointer_at(ptr %cells, i64 1)
  %as_many = icmp eq i64 %n, %count
  br i1 %as_many, label %head, label %end
head:
  %i = phi i64 [ 0, %entry ], [ %next, %place ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %ask, label %execute
ask:
  %x = call ptr @pointer_at(ptr %args, i64 %i)
  %array = call i1 @is_a(ptr %x, ptr %type)
  br i1 %array, label %place, label %end
place:
  %xdata = call ptr @data_of(ptr %x)
  %xplace = getelementptr ptr, ptr %data, i64 %i
  store ptr %xdata, ptr %xplace
  %next = add i64 %i, 1
  br label %head
execute:
  %run = call ptr @pointer_at(ptr %cells, i64 2)
  %given = call ptr @pointer_at(ptr %cells, i64 3)
  %done = call i64 %run(ptr %data, ptr %cells, ptr null, ptr %given)
  br label %end
end:
  %status = phi i64 [ -1, %entry ], [ -1, %ask ], [ %done, %execute ]
  %answer = call ptr @PyLong_FromLongLong(i64 %status)
  ret ptr %answer
}
