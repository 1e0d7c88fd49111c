//! The faults of a run, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::world::{PROCESSES, World};

/// Inflicts faults for `period`, then repairs everything.
pub(super) async fn inflict(world: Arc<World>, mut rng: Rng, period: Duration) {
    let end = Instant::now() + period;
    let mut later = JoinSet::new();
    while Instant::now() < end {
        sleep(ms(&mut rng, 200..3000)).await;
        one(&world, &mut rng, &mut later);
    }
    later.abort_all();
    while later.join_next().await.is_some() {}
    repair(&world);
}

/// One fault. What ends it is left to a task in `later`.
fn one(world: &Arc<World>, rng: &mut Rng, later: &mut JoinSet<()>) {
    let process = rng.usize(..PROCESSES.len());
    match rng.u8(..10) {
        0 => {
            let (count, stored) = (rng.u32(1..4), rng.bool());
            world
                .trace
                .add(&format!("fail {count} publishes, stored: {stored}"));
            world.faults.fail_publishes(count, stored);
        }
        1 => {
            let count = rng.u32(1..3);
            world.trace.add(&format!("time out {count} commits"));
            world.faults.time_out_commits(count);
        }
        2 => {
            let count = rng.usize(1..6);
            world.trace.add(&format!("roll back {count} commits"));
            world.faults.roll_back_commits(count);
        }
        3 => {
            world.trace.add("redeliver");
            world.faults.redeliver();
        }
        4 => {
            world.trace.add("block");
            world.faults.block(true);
            until(world, later, ms(rng, 100..12_000), |world| {
                world.trace.add("unblock");
                world.faults.block(false);
            });
        }
        5..=6 => {
            world.kill(process);
            until(world, later, ms(rng, 0..6000), move |world| {
                world.start(process);
            });
        }
        7 => {
            world.stop(process);
            until(world, later, ms(rng, 0..3000), move |world| {
                world.start(process);
            });
        }
        8 => {
            world.stall(process, true);
            until(world, later, ms(rng, 100..15_000), move |world| {
                world.stall(process, false);
            });
        }
        _ => {
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
