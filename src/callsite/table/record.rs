//! One callsite of a table, in eight bytes.

use crate::address::TextAddr;
use crate::callsite::{Callsite, Form, LandingPad, Prefix};

/// The set of ops that a callsite has, by the number that the engine gives it; [`SetId::NONE`] while it is disabled.
///
/// A small number, so that a record stays eight bytes. The engine keeps what the set is and where its stub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetId(u16);

impl SetId {
    /// Nothing: the second instruction is NOP.
    pub(crate) const NONE: Self = Self(0);

    const BITS: u32 = 14;
    /// How many numbers there are.
    pub(crate) const COUNT: usize = 1 << Self::BITS;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// The set of this number, below 2^14.
    pub(crate) const fn of(number: usize) -> Self {
        debug_assert!(number <= Self::MASK as usize);
        Self(number as u16)
    }

    /// Its number.
    pub(crate) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// One accepted callsite.
///
/// # Invariants
///
/// The text at `word_offset` words from the region's start decoded as a callsite of this form; `now` is what it calls, as
/// far as the engine has written.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct CallsiteRecord(pub(super) u64);

impl CallsiteRecord {
    const PADDED: u64 = 1 << 32;
    const PREFIXED: u64 = 1 << 33;
    const NOW: u32 = 34;
    const NEXT: u32 = Self::NOW + SetId::BITS;
    const QUARANTINED: u64 = 1 << (Self::NEXT + SetId::BITS);
    /// It has had a set.
    const TOUCHED: u64 = Self::QUARANTINED << 1;

    /// `None` where the callsite is more than 16 GiB into its region.
    pub(super) fn new(region: TextAddr, callsite: &Callsite) -> Option<Self> {
        let words = (callsite.mov_addr().get() - region.get()) / 4;
        let mut bits = u64::from(u32::try_from(words).ok()?);
        if callsite.form().landing_pad == LandingPad::BtiC {
            bits |= Self::PADDED;
        }
        if callsite.form().prefix == Prefix::Literal {
            bits |= Self::PREFIXED;
        }
        Some(Self(bits))
    }

    #[inline]
    pub(super) fn word_offset(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }

    /// The callsite that this record stands for.
    #[inline]
    pub(crate) fn callsite(self, region: TextAddr) -> Callsite {
        let landing_pad = if self.0 & Self::PADDED == 0 { LandingPad::None } else { LandingPad::BtiC };
        let prefix = if self.0 & Self::PREFIXED == 0 { Prefix::None } else { Prefix::Literal };
        let mov = region.offset(i64::from(self.word_offset()) * 4);
        Callsite::known(mov, Form { landing_pad, prefix })
    }

    #[inline]
    fn set_at(self, shift: u32) -> SetId {
        SetId(((self.0 >> shift) as u32 & SetId::MASK) as u16)
    }

    #[inline]
    const fn with_set_at(self, shift: u32, set: SetId) -> Self {
        Self(self.0 & !((SetId::MASK as u64) << shift) | (set.0 as u64) << shift)
    }

    /// Both sets and the quarantine flag as one number, to compare records by.
    #[inline]
    pub(super) const fn sets(self) -> u64 {
        (self.0 & !Self::TOUCHED) >> Self::NOW
    }

    /// The callsite's second instruction.
    #[inline]
    pub(crate) fn call_addr(self, region: TextAddr) -> TextAddr {
        region.offset(i64::from(self.word_offset()) * 4 + 4)
    }

    /// Whether a change is planned.
    #[inline]
    pub(crate) fn differs(self) -> bool {
        (self.0 >> Self::NOW ^ self.0 >> Self::NEXT) & u64::from(SetId::MASK) != 0
    }

    /// The set that it has.
    #[inline]
    pub(crate) fn now(self) -> SetId {
        self.set_at(Self::NOW)
    }

    /// The set that it gets when the plan is carried out.
    #[inline]
    pub(crate) fn next(self) -> SetId {
        self.set_at(Self::NEXT)
    }

    /// With this set now, which makes it touched: it got that set, or loses the one that it had.
    #[inline]
    pub(super) const fn with_now(self, now: SetId) -> Self {
        Self(self.with_set_at(Self::NOW, now).0 | Self::TOUCHED)
    }

    /// Whether it has, or has ever had, a set.
    #[inline]
    pub(crate) const fn is_touched(self) -> bool {
        self.0 & Self::TOUCHED != 0
    }

    /// With this set planned.
    #[inline]
    pub(crate) const fn with_next(self, next: SetId) -> Self {
        self.with_set_at(Self::NEXT, next)
    }

    /// With this set, and no change planned.
    pub(crate) const fn with_both(self, set: SetId) -> Self {
        self.with_set_at(Self::NOW, set).with_next(set)
    }

    /// Whether it is quarantined: somebody else has written its text. Its set is then the one that it last had.
    #[inline]
    pub(crate) const fn is_quarantined(self) -> bool {
        self.0 & Self::QUARANTINED != 0
    }

    /// Quarantined, with no change planned.
    pub(crate) fn quarantined(self) -> Self {
        Self(self.withdrawn().0 | Self::QUARANTINED)
    }

    /// No longer quarantined.
    pub(crate) const fn in_use(self) -> Self {
        Self(self.0 & !Self::QUARANTINED)
    }

    /// With the planned change carried out.
    #[inline]
    pub(crate) fn committed(self) -> Self {
        self.with_now(self.next())
    }

    /// With the planned change withdrawn.
    #[inline]
    pub(crate) fn withdrawn(self) -> Self {
        self.with_next(self.now())
    }
}
