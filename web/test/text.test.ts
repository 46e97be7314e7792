import assert from "node:assert/strict";
import { test } from "node:test";
import { formatShare, formatValue, printable, shortName } from "../src/view/text.ts";

test("values have a unit that gives a short number", () => {
  const cases: [number, string, string][] = [
    [0, "nanoseconds", "0 ns"],
    [999, "nanoseconds", "999 ns"],
    [1_500, "nanoseconds", "1.50 µs"],
    [123_456_789, "nanoseconds", "123.5 ms"],
    [76_800_000_000, "nanoseconds", "76.80 s"],
    [7_200_000_000_000, "nanoseconds", "7\u00a0200 s"],
    [2_500, "microseconds", "2.50 ms"],
    [1_536, "bytes", "1.50 KiB"],
    [12_345, "count", "12\u00a0345"],
    [3, "bananas", "3 bananas"],
  ];
  for (const [value, unit, text] of cases) assert.equal(formatValue(value, unit), text);
});

test("shares say how small they are, and 100 % only when nothing is missing to the eye", () => {
  const cases: [number, number, string][] = [
    [0, 10, "0 %"], [10, 10, "100 %"], [1, 3, "33.3 %"], [1, 200, "0.50 %"], [1, 1_000_000, "< 0.01 %"], [5, 0, "0 %"], [9_994, 10_000, "99.9 %"],
  ];
  for (const [part, whole, text] of cases) assert.equal(formatShare(part, whole), text);
});

test("the short name is the function's own, whatever the language", () => {
  const cases: [string, string][] = [
    ["main", "main"],
    ["core::str::from_utf8", "from_utf8"],
    ["alloc::vec::Vec<T,A>::push", "push"],
    ["<tokio::runtime::T0<A> as tokio::Service>::poll", "poll"],
    ["core::ops::function::FnOnce::call_once{{vtable.shim}}", "call_once{{vtable.shim}}"],
    ["std::vector<int, std::allocator<int> >::push_back(int&&)", "push_back"],
    ["(anonymous namespace)::Worker::run() const", "run"],
    ["ns::operator<", "operator<"],
    ["net/http.(*conn).serve", "http.(*conn).serve"],
    ["github.com/a/b.glob..func1", "b.glob..func1"],
    ["runtime.main", "runtime.main"],
    ["[unknown] libz.so+0x4f10", "[unknown] libz.so+0x4f10"],
    ["a<b", "a<b"],
    ["rustc_query::try_execute_query::<Config<A, B>, true>", "try_execute_query"],
    ["std::sys::backtrace::__rust_begin_short_backtrace::<fn(), ()>", "__rust_begin_short_backtrace"],
    ["std::thread::spawn::{closure#1}", "spawn::{closure#1}"],
    ["app::run::<T>::{closure#0}::{closure#2}", "run::{closure#0}::{closure#2}"],
    ["{closure#1}", "{closure#1}"],
    ["", ""],
  ];
  for (const [name, short] of cases) assert.equal(shortName(name), short, name);
});

test("no control or direction character is passed on", () => {
  assert.equal(printable("a\u0000b\n\u001b[31m\u007f"), "a␀b␊␛[31m␡");
  assert.equal(printable("\u202egnp.exe\u202c\u2028\u0085"), "\ufffdgnp.exe\ufffd\ufffd\ufffd");
  assert.equal(printable("<b>名前</b>"), "<b>名前</b>");
});
