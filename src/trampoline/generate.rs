//! Tables of which members are generated.
//!
//! What a generated member needs of others is in its instructions: the function behind, a `static` to count in. So a table that
//! has generated members is a user of the table behind, and its text is given back with its place, when nobody uses it.

use super::body::{Body, Condition, End, Test};
use super::check::CallCheck;
use super::description::{Description, MAX_MEMBERS, Member};
use super::error::OpsError;
use super::kinds::are_in_registers;
use crate::address::TextAddr;
use crate::engine::{Engine, GeneratedText};
use crate::insn::Cond;
use crate::stub::{BTI_JC, MemberCondition, MemberEnd, MemberHeader, MemberPlan};
use core::fmt;

/// Generates members of a table, and puts them into it: as `bodies` says, by the members' names. What a member had is behind it.
///
/// # Errors
///
/// [`OpsError`]; the table is as it was.
///
/// # Safety
///
/// 1. The table can be read and written, and is what the description says.
/// 2. It is called by no longer than what is returned is kept, and what it had stays as long.
pub(super) unsafe fn generate(
    engine: &'static Engine,
    ops: &Description<'_>,
    table: *mut (),
    bodies: &[(&str, Body)],
) -> Result<Option<GeneratedText>, OpsError> {
    let word = |at: TextAddr| engine.text_word(at);
    let check = CallCheck::of(engine, ops)?;
    // SAFETY: 1. our caller's first promise.
    let behind = |member: &Member| unsafe { member.function(table.cast_const()) };
    // By the members' numbers: of several with one name the first is meant, and no other was checked.
    let mut hashes = [None; MAX_MEMBERS];
    let mut wanted: [Option<&Body>; MAX_MEMBERS] = [None; MAX_MEMBERS];
    for (name, body) in bodies {
        let mut members = ops.members()?.zip(hashes.iter_mut().zip(&mut wanted));
        let found = members.find(|(member, _)| member.name() == *name);
        let (member, (hash, place)) = found.ok_or(OpsError::NoSuchMember { ops: ops.name })?;
        body.check(ops.name, &member, behind(&member))?;
        *hash = check.map(|check| check.hash(ops.name, &member, word)).transpose()?;
        if place.replace(body).is_some() {
            return Err(OpsError::Twice { ops: ops.name, member: member.name() });
        }
    }
    let plan = |number: usize| {
        let member = (ops.members)(number)?;
        let body = wanted.get(number).copied().flatten()?;
        let words_between = check.map_or(0, |check| check.words_between);
        let hash = hashes.get(number).copied().flatten();
        let header = MemberHeader { number: number as u16, hash, words_between };
        Some(body.plan(header, &member, behind(&member)))
    };
    let mut entries = [None; MAX_MEMBERS];
    let mut placed = |number: usize, entry: TextAddr| {
        entries.get_mut(number).into_iter().for_each(|place| *place = Some(entry));
    };
    let text = engine.generate(MAX_MEMBERS, &plan, &mut placed)?;
    for (member, entry) in ops.members()?.zip(entries) {
        if let Some(entry) = entry {
            // SAFETY: 1. our caller's first promise. 2. What was just generated is called as the function behind is, and goes on there,
            // or returns a result of the type that the member's was checked to be. Our caller's second promise.
            unsafe { member.set(table, entry) };
        }
    }
    Ok(text)
}

impl Body {
    /// Checks that a member can be so.
    fn check(&self, ops: &'static str, member: &Member, behind: Option<TextAddr>) -> Result<(), OpsError> {
        let name = member.name();
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
pub(super) fn name_in(
    engine: &Engine,
    ops: &Description<'_>,
    [start, end]: [TextAddr; 2],
    at: TextAddr,
) -> Option<GeneratedName> {
    let word = |at: TextAddr| engine.text_word(at);
    let words_between = CallCheck::of(engine, ops).ok()?.map_or(0, |check| check.words_between);
    let header = MemberHeader::bytes(words_between);
    let mut entry = Some(TextAddr::new(at.get() & !0xf)).filter(|_| start <= at && at < end)?;
    while start < entry && word(entry)? != BTI_JC {
        entry = entry.offset(-0x10);
    }
    let number = MemberHeader::number_of(word(entry.offset(-(header as i64)))?)?;
    let member = (ops.members)(usize::from(number))?;
    Some(GeneratedName { ops: ops.name, member: member.name() })
}
