//! What is attached to one function, and the trampolines that are there for it.

use super::class::Signature;
use super::error::AttachError;
use super::leaf::{Leaf, leaf_of};
use crate::address::TextAddr;
use crate::engine::{Engine, GeneratedText, RegisterError};
use crate::filter::{Filter, Rule};
use crate::ops::Ops;
use crate::platform::MAX_HANDLER_RANGES;
use crate::stub::{Handler, HandlerKind, MAX_HANDLERS, TrampolinePlan};
use arrayvec::ArrayVec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// A handler, and what it is known by.
#[derive(Clone, Copy)]
struct Attached {
    id: usize,
    kind: HandlerKind,
    function: TextAddr,
}

type List = ArrayVec<Attached, MAX_HANDLERS>;

/// A trampoline.
struct Image {
    /// Dropped, it is free.
    text: GeneratedText,
    /// Handlers that call nothing, which are called without a guard. Dropped, quiescence doesn't ask for them any more.
    _leaves: ArrayVec<Leaf, MAX_HANDLER_RANGES>,
    /// Whether the function is called from it.
    calls_function: bool,
}

/// Where a trampoline is in its life.
enum Place {
    Free,
    /// The callsite calls it.
    InUse(Image),
    /// The callsite calls it no more. Whether every thread was seen quiescent since.
    Left {
        image: Image,
        is_settled: bool,
    },
    /// Somebody else has written the callsite's text, and may put the call back: it is kept for ever.
    Kept {
        _image: Image,
    },
}

/// What the lock is for.
struct State<const PLACES: usize> {
    attached: List,
    places: [Place; PLACES],
    /// Whose callsite calls what is in the places: the first engine that something was generated for.
    engine: Option<&'static Engine>,
    /// The last handler was taken away, and that was not finished: the ops is still registered.
    is_leaving: bool,
}

/// What is attached to one function.
pub(super) struct Point<const PLACES: usize> {
    ops: Ops,
    misses: AtomicU64,
    /// How many calls of the function are under way in the trampoline of each place.
    calls: [AtomicU64; PLACES],
    /// Where the trampoline of each place is, for who asks at any time.
    texts: [[AtomicU64; 2]; PLACES],
    state: spin::Mutex<State<PLACES>>,
}

/// The function, and how it is called.
#[derive(Clone, Copy)]
struct Target<'a> {
    engine: &'static Engine,
    function: TextAddr,
    signature: &'a Signature<'a>,
}

impl<const PLACES: usize> Point<PLACES> {
    pub(super) const fn new() -> Self {
        const { assert!(PLACES > 0, "there is a place for a trampoline") };
        Self {
            ops: Ops::attached(),
            misses: AtomicU64::new(0),
            calls: [const { AtomicU64::new(0) }; PLACES],
            texts: [const { [const { AtomicU64::new(0) }; 2] }; PLACES],
            state: spin::Mutex::new(State {
                attached: List::new_const(),
                places: [const { Place::Free }; PLACES],
                engine: None,
                is_leaving: false,
            }),
        }
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(super) fn has_instruction(&self, at: TextAddr) -> bool {
        self.texts.iter().any(|[start, end]| {
            let [start, end] = [start, end].map(|at| TextAddr::new(at.load(Ordering::Relaxed)));
            start <= at && at < end
        })
    }

    /// Locks it for an engine, which is the one that it is for. (Another one would say that it calls nothing of it.)
    fn lock(&self, engine: &Engine) -> Result<spin::MutexGuard<'_, State<PLACES>>, AttachError> {
        let state = loop {
            if let Some(state) = self.state.try_lock() {
                break state;
            }
            engine.relax();
        };
        let is_ours = state.engine.is_none_or(|own| core::ptr::eq(own, engine));
        if is_ours { Ok(state) } else { Err(AttachError::OtherEngine) }
    }

    /// Locks it, once what was taken away last is gone.
    fn lock_settled(&'static self, engine: &Engine) -> Result<spin::MutexGuard<'static, State<PLACES>>, AttachError> {
        let mut state = self.lock(engine)?;
        if state.is_leaving {
            self.leave(&mut state, engine)?;
        }
        Ok(state)
    }

    /// Attaches a handler.
    ///
    /// # Safety
    ///
    /// 1. The function is called, and returns, as the signature says, and so is the handler as one of its kind is.
    /// 2. The function returns once to each call.
    /// 3. Both stay as long as something is attached, and until `reclaim` has returned 0 after that.
    pub(super) unsafe fn attach(
        &'static self,
        engine: &'static Engine,
        function: TextAddr,
        signature: &Signature<'_>,
        id: usize,
        kind: HandlerKind,
        handler: TextAddr,
    ) -> Result<(), AttachError> {
        let mut state = self.lock_settled(engine)?;
        let mut list = state.attached.clone();
        if list.iter().any(|attached| attached.id == id) {
            return Err(AttachError::AlreadyAttached);
        }
        list.try_push(Attached { id, kind, function: handler }).map_err(|_| AttachError::TooManyHandlers)?;
        self.change(&mut state, Target { engine, function, signature }, list)
    }

    /// Puts a handler in the place of another one.
    ///
    /// # Safety
    ///
    /// As for [`attach`](Self::attach).
    pub(super) unsafe fn replace(
        &'static self,
        engine: &'static Engine,
        function: TextAddr,
        signature: &Signature<'_>,
        [old, new]: [usize; 2],
        kind: HandlerKind,
        handler: TextAddr,
    ) -> Result<(), AttachError> {
        let mut state = self.lock_settled(engine)?;
        let mut list = state.attached.clone();
        if old != new && list.iter().any(|attached| attached.id == new) {
            return Err(AttachError::AlreadyAttached);
        }
        let place = list.iter_mut().find(|attached| attached.id == old).ok_or(AttachError::NotAttached)?;
        *place = Attached { id: new, kind, function: handler };
        self.change(&mut state, Target { engine, function, signature }, list)
    }

    /// Detaches a handler.
    pub(super) fn detach(
        &'static self,
        engine: &'static Engine,
        function: TextAddr,
        signature: &Signature<'_>,
        id: usize,
    ) -> Result<(), AttachError> {
        let mut state = self.lock(engine)?;
        let mut list = state.attached.clone();
        let place = list.iter().position(|attached| attached.id == id).ok_or(AttachError::NotAttached)?;
        list.remove(place);
        if list.is_empty() {
            state.is_leaving = true;
            self.leave(&mut state, engine)?;
            return self.free(&mut state, engine).map(drop);
        }
        self.change(&mut state, Target { engine, function, signature }, list)
    }

    pub(super) fn reclaim(&'static self, engine: &'static Engine) -> Result<usize, AttachError> {
        let mut state = self.lock_settled(engine)?;
        self.free(&mut state, engine)
    }

    /// Takes all away: the callsite is disabled.
    fn leave(&'static self, state: &mut State<PLACES>, engine: &Engine) -> Result<(), AttachError> {
        match engine.unregister(&self.ops) {
            // Waited for, in both cases.
            Ok(_) | Err(RegisterError::NotRegistered) => {}
            Err(error) => return Err(AttachError::Register(error)),
        }
        state.is_leaving = false;
        state.attached.clear();
        state.leave_in_use(true);
        Ok(())
    }

    /// Makes a trampoline for a list that is not empty, and has the callsite call that.
    fn change(&'static self, state: &mut State<PLACES>, target: Target<'_>, list: List) -> Result<(), AttachError> {
        let Target { engine, function, signature } = target;
        if list.iter().any(|attached| attached.kind == HandlerKind::Modify) && !signature.can_be_answered() {
            return Err(AttachError::NoAnswer);
        }
        let number = match state.free_place() {
            Some(number) => number,
            None => {
                self.free(state, engine)?;
                state.free_place().ok_or(AttachError::NoPlace { places: PLACES })?
            }
        };
        let image = self.generate(number, target, &list)?;
        state.engine = Some(engine);
        let trampoline = image.text.text().start;
        let is_first = !state.places.iter().any(|place| matches!(place, Place::InUse(_)));
        let done = if is_first {
            self.ops.set_trampoline(trampoline);
            engine.register(&self.ops, &Filter::new(&[Rule::address(function)])).map(drop)
        } else {
            // SAFETY: 1. it is generated so. 2. It is freed as the room's page says.
            unsafe { engine.modify_direct(&self.ops, trampoline) }
        };
        let is_in_force = match done {
            Ok(()) => true,
            // It may be registered for all that, if the callsite could not be put back.
            Err(_) if is_first => {
                state.is_leaving = !matches!(engine.unregister(&self.ops), Ok(_) | Err(RegisterError::NotRegistered));
                state.is_leaving
            }
            // The new one is called, but a thread may be on its way to the old one, or come there yet.
            Err(error) => matches!(error, RegisterError::NotQuiescent(_) | RegisterError::Quarantined { .. }),
        };
        if is_in_force {
            match done {
                Err(RegisterError::Quarantined { .. }) => state.keep_in_use(),
                done => state.leave_in_use(done.is_ok()),
            }
            state.attached = list;
        }
        self.show(number, Some(&image));
        if let Some(place) = state.places.get_mut(number) {
            // What was put back may have been called meanwhile.
            *place = if is_in_force { Place::InUse(image) } else { Place::Left { image, is_settled: false } };
        }
        let freed = self.free(state, engine);
        done.map_err(AttachError::Register)?;
        freed.map(drop)
    }

    /// Makes a trampoline for a place.
    fn generate(&'static self, number: usize, target: Target<'_>, list: &List) -> Result<Image, AttachError> {
        let Target { engine, function, signature } = target;
        let shape = signature.shape()?;
        let body = engine.body_of(function).ok_or(AttachError::NoCallsite { function })?;
        let mut handlers = ArrayVec::<Handler, MAX_HANDLERS>::new();
        let mut leaves = ArrayVec::new();
        for Attached { kind, function, .. } in list {
            let leaf = leaf_of(engine, *function);
            let function = leaf.as_ref().map_or(*function, Leaf::function);
            let may_call = leaf.is_none();
            // There is a place for each in the list, and for as many as the engine has ranges for.
            let _ = handlers.try_push(Handler { kind: *kind, function, may_call });
            let _ = leaf.map(|leaf| leaves.try_push(leaf));
        }
        let calls = self.calls.get(number).unwrap_or(&self.misses);
        let plan = TrampolinePlan { shape: &shape, handlers: &handlers, body, calls, misses: &self.misses };
        let text = engine.generate_trampoline(&plan)?;
        let calls_function = handlers.iter().any(|handler| handler.kind == HandlerKind::Exit);
        Ok(Image { text, _leaves: leaves, calls_function })
    }

    /// Frees what can be freed; returns how many are left.
    fn free(&self, state: &mut State<PLACES>, engine: &Engine) -> Result<usize, AttachError> {
        let quiesce = || engine.await_quiescence().map_err(AttachError::NotQuiescent);
        if state.places.iter().any(|place| matches!(place, Place::Left { is_settled: false, .. })) {
            quiesce()?;
            for place in &mut state.places {
                if let Place::Left { is_settled, .. } = place {
                    *is_settled = true;
                }
            }
        }
        // Acquire: what a thread did in the function is before that it is not under way any more.
        let is_idle = |number: usize| self.calls.get(number).is_none_or(|calls| calls.load(Ordering::Acquire) == 0);
        let mut idle = [false; PLACES];
        idle.iter_mut().enumerate().for_each(|(number, idle)| *idle = is_idle(number));
        let returns = |(place, idle): (&Place, &bool)| {
            *idle && matches!(place, Place::Left { image: Image { calls_function: true, .. }, .. })
        };
        // Those that were in the function may be at an exit handler now.
        if state.places.iter().zip(&idle).any(returns) {
            quiesce()?;
        }
        let mut left = 0;
        for (number, (place, idle)) in state.places.iter_mut().zip(&idle).enumerate() {
            match place {
                Place::Left { .. } if *idle => {
                    self.show(number, None);
                    *place = Place::Free;
                }
                Place::Left { .. } | Place::Kept { .. } => left += 1,
                _ => {}
            }
        }
        Ok(left)
    }

    /// Shows where the trampoline of a place is.
    fn show(&self, number: usize, image: Option<&Image>) {
        let text = image.map(|image| image.text.text());
        let ends = text.map_or([0; 2], |text| [text.start.get(), text.end.get()]);
        if let Some(places) = self.texts.get(number) {
            places.iter().zip(ends).for_each(|(place, end)| place.store(end, Ordering::Relaxed));
        }
    }
}

impl<const PLACES: usize> State<PLACES> {
    fn free_place(&self) -> Option<usize> {
        self.places.iter().position(|place| matches!(place, Place::Free))
    }

    /// The trampoline that was in use is not called any more.
    fn leave_in_use(&mut self, is_settled: bool) {
        for place in self.places.iter_mut().filter(|place| matches!(place, Place::InUse(_))) {
            if let Place::InUse(image) = core::mem::replace(place, Place::Free) {
                *place = Place::Left { image, is_settled };
            }
        }
    }

    /// The trampoline that was in use may be called again, by no doing of ours.
    fn keep_in_use(&mut self) {
        for place in self.places.iter_mut().filter(|place| matches!(place, Place::InUse(_))) {
            if let Place::InUse(image) = core::mem::replace(place, Place::Free) {
                *place = Place::Kept { _image: image };
            }
        }
    }
}

impl<const PLACES: usize> fmt::Debug for Point<PLACES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Point").field("misses", &self.misses()).finish_non_exhaustive()
    }
}
