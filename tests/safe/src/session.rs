use super::kernel_of;
use fentry::tracer::dump::Dump;
use fentry::tracer::event::EventWriter;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::session::{self, Options, Session};
use std::convert::Infallible;

static BLOCKS: [RingBlock; 2] = [const { RingBlock::new() }; 2];
static RING: Ring = Ring::new(&BLOCKS, Mode::Overwrite);
static SLOTS: [ProfileSlot; 8] = [const { ProfileSlot::new() }; 8];
static PROFILE: Profile = Profile::new(&SLOTS);
static SESSION: Session<OneCpu> = Session::new();

struct OneCpu;

impl RecordTo for OneCpu {
    fn ring() -> &'static Ring {
        &RING
    }

    fn task() -> u32 {
        1
    }
}

impl StoreIn<Profile> for OneCpu {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Session<Self>> for OneCpu {
    fn store() -> &'static Session<Self> {
        &SESSION
    }
}

#[test]
fn a_session_goes_from_its_words_to_its_dump() {
    let (_, engine, [draw, ..]) = kernel_of(["draw", "sort"]);
    for (words, functions) in
        [("tracer=graph depth=3", 2), ("tracer=function args=2 filter=d*", 1), ("tracer=profile filter=!draw", 1)]
    {
        let options = Options::parse(session::words(words)).unwrap();
        assert_eq!(SESSION.start(engine, &options), Ok(functions), "{words}");
        assert!(SESSION.start(engine, &options).is_err());
        assert_eq!(engine.check_text().enabled, functions);
        assert_eq!(SESSION.stop(engine), Ok(functions));
        assert!(SESSION.stop(engine).is_err());
    }
    assert!(Options::parse(["depth=many"]).unwrap_err().to_string().starts_with("The word"));
    // What a callback would have recorded.
    let recorder = EventWriter { ring: OneCpu::ring(), task: OneCpu::task(), clock: || 5 };
    assert!(recorder.function(draw, draw, &[]));
    let mut bytes = Vec::new();
    let sink = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok::<(), Infallible>(())
    };
    SESSION.dump(engine, sink, 1_000, &[&RING], [(1, "main")]).unwrap();
    assert_eq!(Dump::parse(&bytes).unwrap().events().count(), 1);
}
