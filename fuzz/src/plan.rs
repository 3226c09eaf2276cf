//! Plans and configurations out of any text: refused, or run over a short stream.

use featureplane_core::engine::Engine;
use featureplane_core::engine::config::Config;
use featureplane_core::plan::Plan;

use crate::streams::{CONFIG, PLAN_TEXTS, Packed, synthetic};

/// The text of a plan, a zero byte, the text of a configuration.
pub fn any(data: &[u8]) {
    let (plan, config) = data.split_at(data.iter().position(|&byte| byte == 0).unwrap_or(data.len()));
    let config = std::str::from_utf8(config.get(1..).unwrap_or_default()).unwrap_or_default();
    let plan = std::str::from_utf8(plan).unwrap_or_default();
    for plan in [plan, PLAN_TEXTS[0]] {
        for config in [config, CONFIG] {
            run(plan, config);
        }
    }
}

fn run(plan: &str, config: &str) {
    let (Ok(plan), Ok(config)) = (Plan::from_json(plan, [0; 8]), Config::from_json(config)) else { return };
    let Ok(mut engine) = Engine::new(plan, &config) else { return };
    let mut sink = Packed::new(engine.layout());
    for event in synthetic(config.symbols[0].symbol_id) {
        engine.run(&[event], &mut sink).ok();
    }
    sink.check();
}
