//! What a worker sees of the model's services and of their scaling.

use jiff::Timestamp;
use lamplighter_cloud::scaling::resource_id;
use lamplighter_cloud::services::{Health as TaskHealth, Rollout, ServiceStatus, TaskStatus};
use lamplighter_lifecycle::{
    Bounds, ObservePlan, Observed, Seen, ServiceId, ServiceSeen, Sighting, TaskStopped,
};
use lamplighter_runtime::ports::CallError;

use super::Sim;
use crate::breakage::Breakage;

impl Sim {
    pub(super) async fn observe_service(
        &self,
        id: &ServiceId,
        plan: &ObservePlan,
        at: Timestamp,
    ) -> Result<Sighting, CallError> {
        let what = || id.to_string();
        let (sight, lies) = self
            .call("ecs:DescribeServices", what, |state, now| {
                let names = [id.service().to_owned()];
                let sights = state.world.describe_services(now, id.cluster(), &names);
                let lies = state.breakage == Some(Breakage::TakesAcceptedForDone)
                    && state.watch.is_going_up(&plan.resource);
                Ok((sights.ok().and_then(|mut sights| sights.pop().flatten()), lies))
            })
            .await?;
        let mut seen = ServiceSeen::default();
        let Some(sight) = sight.filter(|it| it.view.status == ServiceStatus::Active) else {
            return Ok(Ok(Observed::of(at, Seen::Service(seen))));
        };
        seen.active = true;
        seen.desired = i64::from(sight.view.desired);
        seen.running = i64::from(sight.running());
        seen.pending = i64::from(sight.pending());
        if lies && seen.desired > 0 {
            seen.running = seen.desired;
        }
        let primary = sight.view.deployments.first();
        let failed = primary.filter(|it| it.rollout == Rollout::Failed);
        seen.rollout_failed = failed.map(|deployment| deployment.reason.clone());
        let unplaced = sight.events.iter().find(|it| it.message.contains("unable to place a task"));
        seen.unplaced = unplaced.map(|event| (event.at, event.message.clone()));
        seen.newest_event_at = sight.events.iter().map(|event| event.at).max();
        if plan.bounds {
            seen.bounds = self.read_bounds(id).await?;
        }
        let short = seen.running < seen.desired;
        if (plan.stopped_tasks && short) || (plan.task_health && seen.running > 0) {
            self.read_tasks(id, plan, &mut seen).await?;
        }
        let mut observed = Observed::of(at, Seen::Service(seen));
        if plan.health.is_some() && observed.state() == lamplighter_lifecycle::PowerState::Running {
            observed.health = Some(self.read_health(&plan.resource).await?);
        }
        Ok(Ok(observed))
    }

    async fn read_bounds(&self, id: &ServiceId) -> Result<Option<Bounds>, CallError> {
        let what = || id.to_string();
        self.call("application-autoscaling:DescribeScalableTargets", what, |state, now| {
            let targets = state.world.describe_scalable_targets(now);
            if state.breakage == Some(Breakage::LeavesItsBounds) {
                return Ok(None);
            }
            let resource = resource_id(id.cluster(), id.service());
            let target = targets.iter().find(|it| it.resource_id == resource);
            Ok(target.map(|it| Bounds { min: i64::from(it.min), max: i64::from(it.max) }))
        })
        .await
    }

    async fn read_tasks(
        &self,
        id: &ServiceId,
        plan: &ObservePlan,
        seen: &mut ServiceSeen,
    ) -> Result<(), CallError> {
        let what = || id.to_string();
        let tasks = self
            .call("ecs:DescribeTasks", what, |state, now| {
                let tasks = state.world.seen_tasks(now, id.cluster(), Some(id.service()));
                let views = tasks
                    .into_iter()
                    .flatten()
                    .map(|(service, _, view)| (view.clone(), service.health_check));
                Ok(views.collect::<Vec<_>>())
            })
            .await?;
        if plan.task_health && tasks.iter().any(|(_, checked)| *checked) {
            let healthy = tasks.iter().filter(|(view, _)| {
                view.status == TaskStatus::Running && view.health == TaskHealth::Healthy
            });
            seen.healthy = i64::try_from(healthy.count()).ok();
        }
        if plan.stopped_tasks {
            let stopped = tasks.iter().filter_map(|(view, _)| {
                let (code, reason) = view.stop.as_ref()?;
                let detail = view.container_reason.as_deref().unwrap_or_default();
                let reason = format!("{reason} {detail}").trim_end().to_owned();
                Some(TaskStopped { at: view.stopped?, code: Some(code.name().to_owned()), reason })
            });
            seen.stopped = stopped.collect();
            seen.stopped.sort_by_key(|task| std::cmp::Reverse(task.at));
        }
        Ok(())
    }
}
