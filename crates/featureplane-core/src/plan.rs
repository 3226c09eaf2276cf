//! A feature set compiled to a list of kernel calls, as canonical JSON from `features/plan.py`.
//!
//! Python composes and fingerprints; here the list is checked once, so that execution need not.

use serde::Deserialize;

use crate::error::Error;
use crate::kernels::Dtype;
pub use crate::kernels::Kind;
use crate::units::i64_to_f64;

/// Changes with any formula of rule 8; part of every fingerprint.
pub const KERNEL_ABI: u32 = 1;

/// Most kernel calls of a plan, and deepest level one may ask for; as in Python.
const NODES_MAX: usize = 65_535;
const LEVELS_MAX: usize = 1_000;

/// Types as plans spell them; a `u32` is stored as a non-negative `i64`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeName {
    I64,
    F64,
    U32,
}

impl From<TypeName> for Dtype {
    fn from(name: TypeName) -> Self {
        match name {
            TypeName::I64 | TypeName::U32 => Self::I64,
            TypeName::F64 => Self::F64,
        }
    }
}

/// Side of the book as plans spell it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BookSide {
    /// Bids.
    Bid,
    /// Asks.
    Ask,
}

/// A number of a plan: integers stay integers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Number {
    /// Written without a point.
    Int(i64),
    /// Written with one.
    Float(f64),
}

impl Number {
    /// F of rule 1.4.
    #[must_use]
    pub const fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => i64_to_f64(value),
            Self::Float(value) => value,
        }
    }
}

/// One kernel and its parameters, named as in rule 8.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kernel", content = "params", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "rule 8 and the Python reference say what each is")]
pub enum Op {
    BestBid {},
    BestAsk {},
    MidX2 {},
    Spread {},
    MicropriceX2 {},
    LevelPrice { side: BookSide, level: usize },
    Qty { side: BookSide, level: usize },
    Depth { side: BookSide, levels: usize },
    ImbalancePpm { levels: usize },
    VwapX2 { levels: usize },
    BookSlope { levels: usize },
    Ofi { level: usize },
    OfiMulti { levels: usize },
    DeepFlow { levels: usize },
    TobSurvivalMs {},
    SignedQty { hidden: bool },
    TradePrice { hidden: bool },
    TradeCount { hidden: bool },
    TradeIntensity { half_life_ns: i64, hidden: bool },
    MsSinceTrade { hidden: bool },
    Ema { n: u32 },
    EmaTime { half_life_ns: i64 },
    SumOver { window_ns: i64 },
    MeanOver { window_ns: i64 },
    StdOver { window_ns: i64 },
    Mean { n: u32 },
    Std { n: u32 },
    Zscore { n: u32 },
    Min { n: u32 },
    Max { n: u32 },
    Lag { n: u32 },
    Diff {},
    Cumsum {},
    Autocov { lag: u32, n: u32 },
    Roll {},
    TradeImbalance { window_ns: i64 },
    Vpin { bucket: Option<i64>, n: u32 },
    KyleLambda { n: u32 },
    ReturnBps { window_ns: i64 },
    RealizedVol { window_ns: i64 },
    RelativeTicks {},
    Clip { lo: Number, hi: Number },
    Abs {},
    Add {},
    Sub {},
    Mul {},
    Div {},
    RatioPpm {},
    Fixed { k: i64 },
    Bucket { edges: Vec<f64> },
    Constant { value: Number },
}

impl Op {
    /// Number of inputs.
    const fn arity(&self) -> usize {
        match self {
            Self::BestBid {}
            | Self::BestAsk {}
            | Self::MidX2 {}
            | Self::Spread {}
            | Self::MicropriceX2 {}
            | Self::LevelPrice { .. }
            | Self::Qty { .. }
            | Self::Depth { .. }
            | Self::ImbalancePpm { .. }
            | Self::VwapX2 { .. }
            | Self::BookSlope { .. }
            | Self::Ofi { .. }
            | Self::OfiMulti { .. }
            | Self::DeepFlow { .. }
            | Self::TobSurvivalMs {}
            | Self::SignedQty { .. }
            | Self::TradePrice { .. }
            | Self::TradeCount { .. }
            | Self::TradeIntensity { .. }
            | Self::MsSinceTrade { .. }
            | Self::Constant { .. } => 0,
            Self::Add {}
            | Self::Sub {}
            | Self::Mul {}
            | Self::Div {}
            | Self::RatioPpm {}
            | Self::KyleLambda { .. }
            | Self::RelativeTicks {} => 2,
            _ => 1,
        }
    }

    /// Deepest level of the book it looks at, 0 if none.
    pub(crate) const fn depth(&self) -> usize {
        match self {
            Self::BestBid {}
            | Self::BestAsk {}
            | Self::MidX2 {}
            | Self::Spread {}
            | Self::MicropriceX2 {}
            | Self::TobSurvivalMs {} => 1,
            Self::LevelPrice { level, .. } | Self::Qty { level, .. } | Self::Ofi { level } => *level,
            Self::Depth { levels, .. }
            | Self::ImbalancePpm { levels }
            | Self::VwapX2 { levels }
            | Self::BookSlope { levels }
            | Self::OfiMulti { levels }
            | Self::DeepFlow { levels } => *levels,
            _ => 0,
        }
    }

    /// Whether it advances at trades by itself.
    const fn is_trade_source(&self) -> bool {
        matches!(
            self,
            Self::SignedQty { .. }
                | Self::TradePrice { .. }
                | Self::TradeCount { .. }
                | Self::TradeIntensity { .. }
                | Self::MsSinceTrade { .. }
        )
    }

    /// Whether it is evaluated at the clock of each frame (mark t of rule 8).
    const fn is_timed(&self) -> bool {
        matches!(
            self,
            Self::TobSurvivalMs {}
                | Self::SumOver { .. }
                | Self::MeanOver { .. }
                | Self::StdOver { .. }
                | Self::TradeImbalance { .. }
                | Self::TradeIntensity { .. }
                | Self::MsSinceTrade { .. }
                | Self::ReturnBps { .. }
                | Self::RealizedVol { .. }
                | Self::RelativeTicks {}
        )
    }
}

#[derive(Deserialize)]
struct NodeJson {
    #[serde(flatten)]
    op: Op,
    inputs: Vec<usize>,
    dtype: TypeName,
    kind: Kind,
}

#[derive(Deserialize)]
struct FeatureJson {
    feature_id: String,
    node: usize,
    dtype: TypeName,
}

#[derive(Deserialize)]
struct PlanJson {
    abi: u32,
    schema_version: u32,
    nodes: Vec<NodeJson>,
    features: Vec<FeatureJson>,
}

/// One kernel call.
#[derive(Clone, Debug)]
pub struct Node {
    /// The kernel.
    pub op: Op,
    /// Earlier nodes it reads.
    pub inputs: Vec<usize>,
    /// Type of its value.
    pub dtype: Dtype,
    /// State or flow.
    pub kind: Kind,
    /// It or an ancestor reads the book.
    pub reads_book: bool,
    /// It or an ancestor reads trades.
    pub reads_trades: bool,
    /// It or an ancestor must be evaluated at the clock of each frame.
    pub timed: bool,
    /// Deepest level it or an ancestor looks at.
    pub depth: usize,
}

/// One column of the frame.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Its name in code and columns.
    pub feature_id: String,
    /// The node whose value it publishes.
    pub node: usize,
    /// Type of the published value.
    pub dtype: Dtype,
    /// A `u32`, stored as a non-negative `i64`.
    pub is_code: bool,
}

/// A checked plan: inputs stand before those who read them.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kernel calls in execution order.
    pub nodes: Vec<Node>,
    /// Columns in schema order.
    pub features: Vec<Feature>,
    /// First eight bytes of the fingerprint, as they stand in the frame.
    pub fingerprint: [u8; 8],
    /// Version of the set's schema.
    pub schema_version: u32,
    /// Levels of the book that must be observed.
    pub depth: usize,
}

impl Plan {
    /// Reads and checks a plan; `fingerprint` is its sha-256 as Python computed it.
    ///
    /// # Errors
    /// [`Error::Plan`] with what was found and what this build expects.
    pub fn from_json(text: &str, fingerprint: [u8; 8]) -> Result<Self, Error> {
        let refuse = |found: String, expected: &str| Error::Plan { found, expected: expected.into() };
        let plan: PlanJson = serde_json::from_str(text)
            .map_err(|error| refuse(error.to_string(), "the plan of a feature set"))?;
        if plan.abi != KERNEL_ABI {
            return Err(refuse(format!("kernel ABI {}", plan.abi), &format!("kernel ABI {KERNEL_ABI}")));
        }
        if plan.features.is_empty() || plan.features.len() > usize::from(u16::MAX) {
            return Err(refuse(format!("{} features", plan.features.len()), "1 to 65,535 features"));
        }
        if plan.nodes.len() > NODES_MAX {
            return Err(refuse(format!("{} nodes", plan.nodes.len()), &format!("at most {NODES_MAX} nodes")));
        }
        let mut nodes: Vec<Node> = Vec::with_capacity(plan.nodes.len());
        for (at, node) in plan.nodes.into_iter().enumerate() {
            if node.inputs.len() != node.op.arity() || node.inputs.iter().any(|&input| input >= at) {
                let found = format!("node {at} {:?} with inputs {:?}", node.op, node.inputs);
                return Err(refuse(found, &format!("{} inputs, all before it", node.op.arity())));
            }
            if node.op.depth() > LEVELS_MAX {
                return Err(refuse(format!("node {at} {:?}", node.op), "levels of 1 to 1,000"));
            }
            nodes.push(derive(node, &nodes));
        }
        let depth = nodes.iter().map(|node| node.depth).max().unwrap_or(0);
        let mut features = Vec::with_capacity(plan.features.len());
        for FeatureJson { feature_id, node, dtype } in plan.features {
            let is_code = matches!(dtype, TypeName::U32);
            let dtype = Dtype::from(dtype);
            if nodes.get(node).is_none_or(|node| node.dtype != dtype) {
                return Err(refuse(format!("feature {feature_id} on node {node}"), "a node of its type"));
            }
            features.push(Feature { feature_id, node, dtype, is_code });
        }
        Ok(Self { nodes, features, fingerprint, schema_version: plan.schema_version, depth })
    }

    /// Whether some kernel reads the book.
    #[must_use]
    pub fn reads_book(&self) -> bool {
        self.nodes.iter().any(|node| node.reads_book)
    }

    /// Whether some kernel reads trades.
    #[must_use]
    pub fn reads_trades(&self) -> bool {
        self.nodes.iter().any(|node| node.reads_trades)
    }
}

fn derive(node: NodeJson, before: &[Node]) -> Node {
    let NodeJson { op, inputs, dtype, kind } = node;
    let any = |test: fn(&Node) -> bool| inputs.iter().any(|&input| before.get(input).is_some_and(test));
    Node {
        reads_book: op.depth() > 0 || any(|node| node.reads_book),
        reads_trades: op.is_trade_source() || any(|node| node.reads_trades),
        timed: op.is_timed() || any(|node| node.timed),
        depth: inputs
            .iter()
            .filter_map(|&input| before.get(input))
            .map(|node| node.depth)
            .fold(op.depth(), usize::max),
        op,
        inputs,
        dtype: dtype.into(),
        kind,
    }
}

impl Plan {
    /// For sources that do not name the aggressor: `signed_qty`, and what is computed from it, reads
    /// the book too (rule 3.5).
    pub fn sign_by_book(&mut self) {
        for at in 0..self.nodes.len() {
            let inputs = self.nodes[at].inputs.clone();
            if matches!(self.nodes[at].op, Op::SignedQty { .. })
                || inputs.iter().any(|&input| self.nodes[input].reads_book)
            {
                self.nodes[at].reads_book = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(nodes: &str) -> Result<Plan, Error> {
        let features = r#"[{"feature_id":"x","node":0,"dtype":"i64"}]"#;
        Plan::from_json(
            &format!(r#"{{"abi":1,"schema_version":1,"nodes":[{nodes}],"features":{features}}}"#),
            [0; 8],
        )
    }

    #[test]
    fn a_level_beyond_all_books_is_refused_before_room_is_made_for_it() {
        let depth = |levels: u64| {
            format!(
                r#"{{"kernel":"ofi_multi","params":{{"levels":{levels}}},"inputs":[],"dtype":"i64","kind":"flow"}}"#
            )
        };
        assert_eq!(plan(&depth(1_000)).unwrap().depth, 1_000);
        for levels in [1_001, u64::MAX >> 1] {
            assert!(matches!(plan(&depth(levels)), Err(Error::Plan { .. })), "{levels}");
        }
    }
}
