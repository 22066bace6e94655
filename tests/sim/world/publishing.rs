//! What runs publishes its metrics, and can be changed.

use lamplighter_lifecycle::Resource;

use super::{Sim, State};
use crate::backends;
use crate::backends::Backend;

impl Sim {
    /// What runs publishes its metrics: once a minute.
    pub fn publish(&self) {
        let now = self.true_now();
        let mut state = self.lock();
        let State { backends, world, .. } = &mut *state;
        world.advance(now);
        for (resource, backend) in backends.iter_mut() {
            if backends::up_since(world, resource).is_none() {
                continue;
            }
            let data = backend.publish(resource, now);
            if !data.is_empty() {
                world.put_metric_data(now, &data).expect("the data is sound");
            }
        }
    }

    /// Looks at a backend, or changes it.
    pub fn with_backend<R>(
        &self,
        resource: &Resource,
        act: impl FnOnce(&mut Backend) -> R,
    ) -> Option<R> {
        self.lock().backends.get_mut(resource).map(act)
    }

    /// Whether it runs, and so can be used.
    pub fn is_up(&self, resource: &Resource) -> bool {
        let now = self.true_now();
        let mut state = self.lock();
        state.world.advance(now);
        backends::up_since(&state.world, resource).is_some()
    }
}
