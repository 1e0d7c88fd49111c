//! Work on one event or one stored entity. A panic there is a bug of revwatch, and becomes a reason that names it.

use revwatch_core::entity::EntityKey;
use revwatch_runtime::panics::catch;

/// Runs `work` on one event.
pub(crate) fn on_event<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch(work).map_err(|panic| {
        format!(
            "revwatch failed on this event ({panic}): please report it, and requeue the event after an upgrade"
        )
    })
}

/// Runs `work` on one stored entity.
pub(crate) fn on_entity<T>(key: &EntityKey, work: impl FnOnce() -> T) -> Result<T, String> {
    catch(work).map_err(|panic| format!("{key}: revwatch failed on it ({panic}): please report it"))
}
