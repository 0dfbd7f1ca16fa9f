//! Functions with known results: what compilers make of formatting, sorting, parsing, hashing, floating point, jumps through
//! tables and calls through pointers, and an assembly function that has one of each instruction that is simulated.

use core::arch::global_asm;
use core::fmt::Write as _;
use core::hint::black_box;

/// One function of the corpus.
pub(crate) struct Item {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> u64,
}

/// Each is short: it is run again for each of its instructions.
pub(crate) const ITEMS: &[Item] = &[
    Item { name: "assembly", run: assembly },
    Item { name: "formatting {:?}", run: debug_formatting },
    Item { name: "formatting {:#?}", run: pretty_formatting },
    Item { name: "numbers as text", run: number_formatting },
    Item { name: "{:.3} of f64", run: exact_formatting },
    Item { name: "{:?} of f64", run: shortest_formatting },
    Item { name: "sorting", run: sorting },
    Item { name: "stable sorting", run: stable_sorting },
    Item { name: "parsing", run: parsing },
    Item { name: "hashing", run: hashing },
    Item { name: "floating point", run: floating_point },
    Item { name: "jumps", run: jumps },
    Item { name: "calls", run: calls },
];

/// Mixes one more number into a digest.
#[inline(always)]
fn mix(digest: u64, value: u64) -> u64 {
    (digest ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
}

#[inline(always)]
fn digest(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(1, mix)
}

/// What is written is mixed into a digest.
struct Digest(u64);

impl core::fmt::Write for Digest {
    #[inline(never)]
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0 = text.bytes().fold(self.0, |digest, byte| mix(digest, byte.into()));
        Ok(())
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "it is printed")]
struct Record<'a> {
    name: &'a str,
    numbers: [i32; 3],
    next: Option<&'a Record<'a>>,
}

#[inline(never)]
fn debug_formatting() -> u64 {
    let mut out = Digest(7);
    let record = Record { name: "fi\"rst\n\u{e9}", numbers: [-1, 0, 1_000_000], next: None };
    let _ = write!(out, "{record:?}");
    out.0
}

#[inline(never)]
fn pretty_formatting() -> u64 {
    let mut out = Digest(8);
    let _ = write!(out, "{:#?}", black_box([1_u8, 255]));
    out.0
}

#[inline(never)]
fn number_formatting() -> u64 {
    let mut out = Digest(9);
    let _ = write!(out, "{:>12} {:#010x} {:+}", black_box(987_654_321_u64), 0xbeef, 5);
    let _ = write!(out, " {:<5}|{:^7}| {:e}", 'x', "mid", black_box(123_456_u32));
    out.0
}

#[inline(never)]
fn exact_formatting() -> u64 {
    let mut out = Digest(10);
    let _ = write!(out, "{:.3}", black_box(2.625_97_f64));
    out.0
}

#[inline(never)]
fn shortest_formatting() -> u64 {
    let mut out = Digest(11);
    let _ = write!(out, "{:?}", black_box(1.0e-7_f64));
    out.0
}

fn numbers<const N: usize>() -> [u64; N] {
    let mut state = black_box(88_172_645_463_325_252_u64);
    core::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 1000
    })
}

#[inline(never)]
fn sorting() -> u64 {
    let mut all = numbers::<34>();
    all.sort_unstable();
    let found = all.binary_search(&all[20]).map_or(0, |index| index as u64);
    all.sort_unstable_by_key(|number| number % 7);
    digest(all) ^ found
}

#[inline(never)]
fn stable_sorting() -> u64 {
    // With as few as these it takes its memory from the stack: what the heap executes depends on what was there before.
    let mut all = numbers::<24>().map(|number| (number % 9, number as usize));
    all.sort();
    all.rotate_left(7);
    all.sort_by_key(|(_, n)| n % 5);
    digest(all.iter().map(|(key, n)| key << 32 | *n as u64))
}

#[inline(never)]
fn parsing() -> u64 {
    let text = black_box("12,-7,0x1f,340282366920938463463374607431768211455,2.5e3,nonsense,\u{20ac}uro");
    digest(text.split(',').map(|part| {
        let whole = part.trim().parse::<i64>().map_or(1, i64::cast_unsigned);
        let wide = part.parse::<u128>().map_or(2, |wide| wide as u64 ^ (wide >> 64) as u64);
        let float = part.parse::<f64>().map_or(3, f64::to_bits);
        mix(mix(whole, wide), mix(float, part.chars().count() as u64))
    }))
}

#[inline(never)]
fn hashing() -> u64 {
    let mut state = [0x6a09_e667_u32, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];
    for (n, byte) in black_box(*b"The quick brown fox jumps over the lazy dog").into_iter().enumerate() {
        let [a, b, c, d] = state;
        let f = if n % 3 == 0 { (b & c) | (!b & d) } else { b ^ c ^ d };
        let sum = a.wrapping_add(f).wrapping_add(u32::from(byte) << (n % 24)).wrapping_add(0x5a82_7999);
        state = [d, b.wrapping_add(sum.rotate_left(n as u32 % 32)), b.swap_bytes(), c.leading_zeros() ^ c];
    }
    let wide = ((u128::from(state[0]) * u128::from(state[1])) << 40) | u128::from(state[2]);
    digest([wide as u64, (wide >> 64) as u64, u64::from(state[3]), (wide % 1_000_000_007) as u64])
}

#[inline(never)]
fn floating_point() -> u64 {
    let mut matrix = [[0.0_f64; 4]; 4];
    for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
        matrix[row][column] = black_box(row as f64 * 1.5 - column as f64 / 3.0);
    }
    let mut product = [[0.0_f32; 4]; 4];
    for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
        product[row][column] = (0..4).map(|n| matrix[row][n] * matrix[n][column]).sum::<f64>() as f32;
    }
    let greatest = product.iter().flatten().copied().fold(f32::MIN, f32::max);
    digest(product.iter().flatten().map(|value| u64::from(value.to_bits()))) ^ (greatest as i64).cast_unsigned()
}

#[inline(never)]
fn jump(n: u64, value: u64) -> u64 {
    match n {
        0 => value.wrapping_mul(3),
        1 => value >> 5,
        2 => value ^ 0xff00_ff00,
        3 => value.count_ones().into(),
        4 => value.reverse_bits(),
        5 => value.wrapping_sub(77),
        6 => value / 11,
        7 => value % 1013,
        8 => !value,
        _ => value | 1,
    }
}

#[inline(never)]
fn jumps() -> u64 {
    (0..12).fold(black_box(0x1234_5678_9abc_def0), |value, n| jump(black_box(n), value).wrapping_add(n))
}

#[inline(never)]
fn recursive(n: u64, big: [u64; 12]) -> u64 {
    if n == 0 {
        return big.iter().sum();
    }
    let mut next = black_box(big);
    next[n as usize % 12] ^= n;
    mix(recursive(n - 1, next), n)
}

type Many = extern "C" fn(u8, u16, u32, u64, i8, i64, u64, u64, u64, u16) -> u128;

#[inline(never)]
extern "C" fn many(a: u8, b: u16, c: u32, d: u64, e: i8, f: i64, g: u64, h: u64, i: u64, j: u16) -> u128 {
    let sum = u64::from(a) + u64::from(b) + u64::from(c) + d + g + h + i + u64::from(j);
    u128::from(sum) << 64 | u128::from((f + i64::from(e)).cast_unsigned())
}

#[inline(never)]
fn calls() -> u64 {
    let table: [fn(u64, u64) -> u64; 3] = [jump, mix_out_of_line, |a, b| a.wrapping_sub(b)];
    let by_pointer = (0..6).fold(9, |value, n: usize| black_box(table)[n % 3](n as u64, value));
    let wide = black_box(many as Many)(1, 2, 3, 4, -5, -6, 7, 8, 9, 10);
    digest([by_pointer, recursive(5, core::array::from_fn(|n| n as u64)), wide as u64, (wide >> 64) as u64])
}

#[inline(never)]
fn mix_out_of_line(a: u64, b: u64) -> u64 {
    mix(a, b)
}

#[inline(never)]
fn assembly() -> u64 {
    unsafe extern "C" {
        safe fn corpus_assembly(a: u64, b: u64) -> u64;
    }
    (0..4).map(|n| corpus_assembly(black_box(n), 0xffff_0000_1234_5678 ^ (n << 31))).fold(3, mix)
}

global_asm!(
    r#"
    .pushsection .text.corpus_assembly, "ax"
    .balign 8
    .global corpus_assembly
    .type   corpus_assembly, %function
corpus_assembly:
    hint    #34                         // BTI C
    stp     x29, x30, [sp, #-48]!
    mov     x29, sp
    stp     x19, x20, [sp, #32]
    mov     x19, #1                     // the digest
    .macro  corpus_mix value
    eor     x19, x19, \value
    ror     x19, x19, #7
    add     x19, x19, #13
    .endm
    adr     x2, 1f
    adrp    x3, corpus_assembly
    sub     x3, x2, x3
    corpus_mix x3
    ldr     w2, 1f
    ldr     x3, 1f
    ldrsw   x4, 1f
    ldr     xzr, 1f
    prfm    pldl1keep, 1f
    corpus_mix x2
    corpus_mix x3
    corpus_mix x4
    cbz     x0, 2f
    corpus_mix x0
2:  cbnz    w1, 3f
    corpus_mix x1
3:  tbz     x1, #40, 4f
    corpus_mix x0
4:  tbnz    w1, #3, 5f
    corpus_mix x1
5:
    .irp    condition, eq, ne, hs, lo, mi, pl, vs, vc, hi, ls, ge, lt, gt, le
    cmp     x1, x0, lsl #40
    b.\condition 6f
    add     x19, x19, #1
6:  ccmp    x0, #2, #9, \condition
    b.\condition 6f
    add     x19, x19, #3
6:  ror     x19, x19, #3
    .endr
    mrs     x5, nzcv
    corpus_mix x5
    eor     x5, x5, #0xf0000000
    msr     nzcv, x5
    cset    x6, vs
    corpus_mix x6
    dmb     ish
    isb
    b       7f
7:  bl      8f                          // to a function that returns by another register
    adr     x7, 7b
    sub     x7, x10, x7
    corpus_mix x7
    adr     x20, 10f
    blr     x20
    mov     x30, x20
    blr     x30
    adr     x16, 9f
    br      x16
8:  mov     x10, x30
    ret     x10
9:  hint    #36                         // BTI J
    sub     sp, sp, #16
    str     x19, [sp, #8]!
    ldr     x0, [sp], #8
    ldp     x19, x20, [sp, #32]
    ldp     x29, x30, [sp], #48
    ret
10: hint    #34                         // BTI C
    add     x19, x19, #17
    ret
    .balign 8
1:  .quad   0xfedcba9887654321
    .size   corpus_assembly, . - corpus_assembly
    .purgem corpus_mix
    .popsection
    "#
);
