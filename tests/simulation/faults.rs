//! The faults of a run, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::world::{PROCESSES, World};

/// The kinds of fault.
#[derive(Debug, Clone, Copy)]
enum Fault {
    FailPublishes,
    RefuseCommits,
    TimeOutCommits,
    RollBack,
    Redeliver,
    Block,
    Kill,
    Stop,
    Stall,
    ClockJump,
}

const ALL: [Fault; 10] = [
    Fault::FailPublishes,
    Fault::RefuseCommits,
    Fault::TimeOutCommits,
    Fault::RollBack,
    Fault::Redeliver,
    Fault::Block,
    Fault::Kill,
    Fault::Stop,
    Fault::Stall,
    Fault::ClockJump,
];

/// Inflicts faults for `period`, then repairs everything. Each run has only some kinds of fault: one
/// may hide what another does, as the replay after a rollback repairs what a worker forgot.
pub(super) async fn inflict(world: Arc<World>, mut rng: Rng, period: Duration) {
    let end = Instant::now() + period;
    let mut later = JoinSet::new();
    let kinds = rng.usize(1..=ALL.len());
    let mut kinds = rng.choose_multiple(ALL, kinds);
    if kinds.len() > 1 && rng.bool() {
        kinds.retain(|kind| !matches!(kind, Fault::RollBack));
    }
    world.trace.add(&format!("faults: {kinds:?}"));
    while Instant::now() < end {
        sleep(ms(&mut rng, 200..3000)).await;
        let fault = kinds[rng.usize(..kinds.len())];
        one(&world, fault, &mut rng, &mut later);
    }
    later.abort_all();
    while later.join_next().await.is_some() {}
    repair(&world);
}

/// One fault. What ends it is left to a task in `later`.
fn one(world: &Arc<World>, fault: Fault, rng: &mut Rng, later: &mut JoinSet<()>) {
    let process = rng.usize(..PROCESSES.len());
    match fault {
        Fault::FailPublishes => {
            let (count, stored) = (rng.u32(1..4), rng.bool());
            world
                .trace
                .add(&format!("fail {count} publishes, stored: {stored}"));
            world.faults.fail_publishes(count, stored);
        }
        Fault::RefuseCommits => {
            let count = rng.u32(1..3);
            world.trace.add(&format!("refuse {count} commits"));
            world.faults.refuse_commits(count);
        }
        Fault::TimeOutCommits => {
            let count = rng.u32(1..3);
            world.trace.add(&format!("time out {count} commits"));
            world.faults.time_out_commits(count);
        }
        Fault::RollBack => {
            let count = rng.usize(1..6);
            world.trace.add(&format!("roll back {count} commits"));
            world.faults.roll_back_commits(count);
        }
        Fault::Redeliver => {
            world.trace.add("redeliver");
            world.faults.redeliver();
        }
        Fault::Block => {
            world.trace.add("block");
            world.faults.block(true);
            until(world, later, ms(rng, 100..12_000), |world| {
                world.trace.add("unblock");
                world.faults.block(false);
            });
        }
        Fault::Kill => {
            world.kill(process);
            until(world, later, ms(rng, 0..6000), move |world| {
                world.start(process);
            });
        }
        Fault::Stop => {
            world.stop(process);
            until(world, later, ms(rng, 0..3000), move |world| {
                world.start(process);
            });
        }
        Fault::Stall => {
            world.stall(process, true);
            until(world, later, ms(rng, 100..15_000), move |world| {
                world.stall(process, false);
            });
        }
        Fault::ClockJump => {
            let by = ms(rng, 1000..60_000);
            world.trace.add(&format!("the clocks jump by {by:?}"));
            world.clock.jump(by);
        }
    }
}

fn repair(world: &World) {
    world.trace.add("no more faults");
    world.faults.fail_publishes(0, false);
    world.faults.time_out_commits(0);
    world.faults.refuse_commits(0);
    world.faults.block(false);
    world.slack.behave();
    for process in 0..PROCESSES.len() {
        world.stall(process, false);
        world.start(process);
    }
    // What is not due yet falls due now.
    world.clock.jump(Duration::from_secs(1800));
}

fn until(
    world: &Arc<World>,
    later: &mut JoinSet<()>,
    after: Duration,
    end: impl FnOnce(&World) + Send + 'static,
) {
    let world = world.clone();
    later.spawn(async move {
        sleep(after).await;
        end(&world);
    });
}

fn ms(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}
