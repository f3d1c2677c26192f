//! Ends a query that is in the middle of something. DataFusion gives way only when it reads, and a join of what it has in
//! memory may go on for hours without; so every step of a plan looks at the clock for each batch.

use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt as _;
use std::fmt;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When a query ends in any case: at its time, or when nobody waits for it any more.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) deadline: Instant,
    pub(super) gone: CancellationToken,
}

impl Stop {
    fn check(&self) -> Result<()> {
        if self.gone.is_cancelled() || Instant::now() >= self.deadline {
            return Err(DataFusionError::Execution("the query was ended".into()));
        }
        Ok(())
    }
}

/// A plan with the brake on each of its steps.
pub(super) fn braked(plan: Arc<dyn ExecutionPlan>, stop: &Stop) -> Result<Arc<dyn ExecutionPlan>> {
    let braked = plan.transform_up(|input| {
        Ok(Transformed::yes(Arc::new(Brake { input, stop: stop.clone() }) as Arc<dyn ExecutionPlan>))
    });
    Ok(braked?.data)
}

#[derive(Debug)]
struct Brake {
    input: Arc<dyn ExecutionPlan>,
    stop: Stop,
}

impl DisplayAs for Brake {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Brake")
    }
}

impl ExecutionPlan for Brake {
    fn name(&self) -> &str {
        "Brake"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| self.input.clone());
        Ok(Arc::new(Self { input, stop: self.stop.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (rows, stop) = (self.input.execute(partition, context)?, self.stop.clone());
        let schema = rows.schema();
        let rows = rows.map(move |batch| stop.check().and(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}
