//! Tables of which members are generated.
//!
//! What a generated member needs of others is in its instructions: the function behind, a `static` to count in. So a table that
//! has generated members is a user of the table behind, and its text is given back with its place, when nobody uses it.

use super::body::{Body, Condition, End, Test};
use super::check::CallCheck;
use super::description::{Member, OpsStruct};
use super::error::OpsError;
use super::kinds::are_in_registers;
use crate::address::TextAddr;
use crate::engine::{Engine, GeneratedText};
use crate::insn::Cond;
use crate::stub::{BTI_JC, MemberCondition, MemberEnd, MemberHeader, MemberPlan};
use core::fmt;

/// The most members of an ops struct.
pub(super) const MAX_MEMBERS: usize = 64;

/// Generates members of a table, and puts them into it: as `bodies` says, by the members' names.
///
/// # Errors
///
/// [`OpsError`]; the table must not be used then.
pub(super) fn generate<T: OpsStruct>(
    engine: &'static Engine,
    table: &mut T,
    bodies: &[(&str, Body)],
) -> Result<Option<GeneratedText>, OpsError> {
    let word = |at: TextAddr| engine.text_word(at);
    let check = CallCheck::of_caller(T::caller(), word);
    let mut hashes = [None; MAX_MEMBERS];
    for (name, body) in bodies {
        let mut members = T::MEMBERS.iter().zip(&mut hashes);
        let (member, hash) =
            members.find(|(member, _)| member.name() == *name).ok_or(OpsError::NoSuchMember { ops: T::NAME })?;
        body.check::<T>(member, member.function(table))?;
        *hash = check.map(|check| check.hash::<T>(member, word)).transpose()?;
    }
    // What is behind, while the table gets what is generated.
    let behind = *table;
    let plan = |number: usize| {
        let member = T::MEMBERS.get(number)?;
        let (_, body) = bodies.iter().find(|(name, _)| member.name() == *name)?;
        let words_between = check.map_or(0, |check| check.words_between);
        let hash = hashes.get(number).copied().flatten();
        let header = MemberHeader { number: number as u16, hash, words_between };
        Some(body.plan(header, member, member.function(&behind)))
    };
    let mut placed = |number: usize, entry: TextAddr| {
        if let Some(member) = T::MEMBERS.get(number) {
            // SAFETY: 1. what was just generated is called as the function behind is, and goes on there, or returns a result of the
            // type that the member's was checked to be. The place that the table comes to keeps the text.
            unsafe { member.set(table, entry) };
        }
    };
    Ok(engine.generate(T::MEMBERS.len(), &plan, &mut placed)?)
}

impl Body {
    /// Checks that a member can be so.
    fn check<T: OpsStruct>(&self, member: &Member, behind: Option<TextAddr>) -> Result<(), OpsError> {
        let (ops, name) = (T::NAME, member.name());
        let is_alone = matches!(self.end, End::Answer { .. }) && self.condition.is_none();
        if behind.is_none() && !is_alone {
            return Err(OpsError::NothingBehind { ops, member: name });
        }
        match self.end {
            End::Answer { kind, .. } if member.result != Some(kind) => {
                return Err(OpsError::OtherResult { ops, member: name });
            }
            End::Time(_) if !are_in_registers(member.arguments) => {
                return Err(OpsError::StackArguments { ops, member: name });
            }
            _ => {}
        }
        match self.condition {
            Some(condition) if condition.register(member).is_none() => {
                Err(OpsError::NoSuchArgument { ops, member: name, argument: condition.argument })
            }
            _ => Ok(()),
        }
    }

    fn plan(&self, header: MemberHeader, member: &Member, behind: Option<TextAddr>) -> MemberPlan {
        let end = match self.end {
            End::Forward => MemberEnd::Forward,
            End::Answer { bits, .. } => MemberEnd::Return(bits),
            End::Time(times) => MemberEnd::Time(times),
        };
        let condition = self.condition.and_then(|condition| condition.register(member));
        MemberPlan { header, condition, count: self.count, record: self.record, end, other: behind }
    }
}

impl Condition {
    /// In which register the argument is, if that is certain.
    fn register(&self, member: &Member) -> Option<MemberCondition> {
        const REGISTERS: usize = 8;
        let arguments = member.arguments.get(..=self.argument).filter(|before| before.len() <= REGISTERS)?;
        let mut bits = None;
        for argument in arguments {
            bits = Some(argument.general_bits()?);
        }
        let cond = match self.test {
            Test::Equal => Cond::Eq,
            Test::NotEqual => Cond::Ne,
            Test::Below => Cond::Lo,
            Test::AtLeast => Cond::Hs,
        };
        Some(MemberCondition { register: self.argument as u8, bits: bits?, cond, value: self.value })
    }
}

/// The name of a generated member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratedName {
    /// The ops struct.
    pub ops: &'static str,
    /// The member.
    pub member: &'static str,
}

impl fmt::Display for GeneratedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} [generated]", self.ops, self.member)
    }
}

/// The generated member that has an instruction, if it is one of those in `text`.
pub(super) fn name_in<T: OpsStruct>(
    engine: &Engine,
    [start, end]: [TextAddr; 2],
    at: TextAddr,
) -> Option<GeneratedName> {
    let word = |at: TextAddr| engine.text_word(at);
    let words_between = CallCheck::of_caller(T::caller(), word).map_or(0, |check| check.words_between);
    let header = MemberHeader::bytes(words_between);
    let mut entry = Some(TextAddr::new(at.get() & !0xf)).filter(|_| start <= at && at < end)?;
    while start < entry && word(entry)? != BTI_JC {
        entry = entry.offset(-0x10);
    }
    let number = MemberHeader::number_of(word(entry.offset(-(header as i64)))?)?;
    let member = T::MEMBERS.get(usize::from(number))?;
    Some(GeneratedName { ops: T::NAME, member: member.name() })
}
