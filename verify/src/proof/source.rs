//! C that makes compilers use all of their frames: early returns before and after registers are saved, switches, arrays on the
//! stack from a few bytes to megabytes, `alloca`, arguments on the stack, floating-point registers, calls that do not return,
//! and calls in the last place.

use std::fmt::Write;

/// The one function of another file that never returns.
pub const DIES: &str = "die";

const HEAD: &str = "typedef unsigned long u64;
void note(const void *, u64);
u64 ask(u64);
double ask_double(double);
u64 many(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64);
u64 variadic(u64, ...);
__attribute__((noreturn)) void die(u64);
extern u64 (*volatile pointer)(u64, u64);
";

/// Numbers that look random and are the same every time: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}

/// A program of so many functions, the same for the same seed. `floats` has it use doubles.
pub fn source(seed: u64, functions: u64, floats: bool) -> String {
    let random = Random(seed.wrapping_mul(2).wrapping_add(1));
    let mut writer = Writer { random, text: HEAD.to_owned(), functions, floats };
    for number in 0..functions {
        // A `String` takes whatever is written.
        let _ = writeln!(writer.text, "u64 f{number}(u64, u64);");
    }
    (0..functions).for_each(|number| writer.function(number));
    writer.text
}

struct Writer {
    random: Random,
    text: String,
    functions: u64,
    floats: bool,
}

impl Writer {
    fn line(&mut self, depth: usize, line: &str) {
        let _ = writeln!(self.text, "{:1$}{line}", "", 2 * depth);
    }

    fn function(&mut self, number: u64) {
        let attribute = ["", "", "static inline ", "__attribute__((noinline)) "][self.random.below(4) as usize];
        // A static function that nobody calls is left out.
        let attribute = if attribute.starts_with("static") { "" } else { attribute };
        let bytes = [0, 0, 0, 24, 300, 5_000, 70_000, 20_000_000][self.random.below(8) as usize];
        self.line(0, &format!("{attribute}u64 f{number}(u64 a, u64 b) {{"));
        self.line(1, "u64 c = 1, d = a ^ b, e = b + 3, g = a;");
        if self.floats {
            self.line(1, "double x = (double)a, y = 2.5;");
        }
        if self.random.below(3) == 0 {
            let returned = self.value();
            self.line(1, &format!("if (a == {}) return {returned};", self.random.0 & 255));
        }
        if bytes > 0 {
            self.line(1, &format!("unsigned char room[{bytes}];"));
            self.line(1, "note(room, a);");
        }
        for _ in 0..3 + self.random.below(6) {
            self.statement(1, 0);
        }
        match self.random.below(4) {
            0 => {
                let (callee, one, other) = (self.callee(), self.value(), self.value());
                self.line(1, &format!("return {callee}({one}, {other});"));
            }
            1 if self.floats => self.line(1, "return c + d + e + g + (u64)(x * y);"),
            _ => self.line(1, "return c + d * e + g;"),
        }
        self.line(0, "}");
    }

    fn value(&mut self) -> &'static str {
        ["a", "b", "c", "d", "e", "g", "c + 7", "d ^ e", "a * 3"][self.random.below(9) as usize]
    }

    fn place(&mut self) -> &'static str {
        ["c", "d", "e", "g"][self.random.below(4) as usize]
    }

    fn callee(&mut self) -> String {
        match self.random.below(6) {
            0 => "pointer".to_owned(),
            _ => format!("f{}", self.random.below(self.functions)),
        }
    }

    fn block(&mut self, depth: usize, nested: u32) {
        for _ in 0..1 + self.random.below(3) {
            self.statement(depth, nested);
        }
    }

    fn statement(&mut self, depth: usize, nested: u32) {
        let (to, one, other) = (self.place(), self.value(), self.value());
        let kinds = if nested < 3 { 14 } else { 8 };
        match self.random.below(kinds) {
            0 => self.line(depth, &format!("{to} = {one} * ({other});")),
            1 => {
                let callee = self.callee();
                self.line(depth, &format!("{to} = {callee}({one}, {other});"));
            }
            2 => self.line(depth, &format!("{to} += ask({one});")),
            3 => self.line(depth, &format!("{to} = many({one}, {other}, 3, 4, c, d, 7, 8, e, g, {one});")),
            4 if self.floats => self.line(depth, "x = ask_double(y * x) + y; y = y * 1.5 + x;"),
            4 | 5 => self.line(depth, &format!("if ({one} == {}) die({other});", self.random.0 & 1023)),
            6 => self.line(depth, &format!("{to} ^= variadic({one}, {other}, c);")),
            7 => {
                self.line(depth, &format!("if (({one}) & 512) return {other};"));
            }
            8 | 9 => {
                self.line(depth, &format!("if ({one} < {other}) {{"));
                self.block(depth + 1, nested + 1);
                self.line(depth, "} else {");
                self.block(depth + 1, nested + 1);
                self.line(depth, "}");
            }
            10 => {
                let index = format!("i{depth}");
                self.line(depth, &format!("for (u64 {index} = 0; {index} < (({one}) & 31); {index}++) {{"));
                self.block(depth + 1, nested + 1);
                self.line(depth, "}");
            }
            11 => {
                self.line(depth, &format!("{{ char *p = __builtin_alloca(({one}) & 255); note(p, {other}); }}"));
            }
            _ => self.switch(depth, nested, one),
        }
    }

    fn switch(&mut self, depth: usize, nested: u32, on: &str) {
        let cases = 5 + self.random.below(12);
        self.line(depth, &format!("switch ({on}) {{"));
        for case in 0..cases {
            self.line(depth, &format!("case {case}:"));
            let (to, value) = (self.place(), self.value());
            match self.random.below(4) {
                0 => self.statement(depth + 1, nested + 1),
                1 => self.line(depth + 1, &format!("{to} = ask({value} + {case});")),
                _ => self.line(depth + 1, &format!("{to} = {value} + {};", case * case * 77)),
            }
            if self.random.below(5) > 0 {
                self.line(depth + 1, "break;");
            }
        }
        self.line(depth, "default:");
        let to = self.place();
        self.line(depth + 1, &format!("{to} = 1;"));
        self.line(depth, "}");
    }
}
