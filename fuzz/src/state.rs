//! Saved states: any bytes are a state or an error, and whatever is taken for a state can be gone on from.

use featureplane_core::engine::Engine;
use featureplane_core::error::Error;

use crate::choices::Choices;
use crate::engine::{events, options};
use crate::streams::{PLANS, Packed, plan};

/// Options of an engine, up to seven changes or a choice to make all of it up, then events: half of them
/// come before the state is saved.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let plan = plan(choices.below(PLANS));
    let mut config = options(&mut choices);
    config.symbols.truncate(1);
    let id = config.symbols[0].symbol_id;
    let what = choices.below(10);
    let changes: Vec<(usize, u8, u64)> = (0..what % 8)
        .map(|_| {
            let at = usize::try_from(choices.short() & 0x7fff).unwrap_or(0);
            (at, choices.byte(), choices.number().cast_unsigned())
        })
        .collect();
    let raw = choices.rest();
    let events = events(&mut choices);
    let (before, after) = events.split_at(events.len() / 2);

    let fresh = Engine::new(plan.clone(), &config).expect("a plan and a configuration of ours");
    if what == 8 {
        go_on(fresh, id, raw, after).ok();
        return;
    }
    let mut engine = fresh.clone();
    engine.run(before, &mut Packed::new(fresh.layout())).ok();
    let mut state = engine.save(id).expect("a symbol of ours");
    if what == 0 {
        go_on(fresh, id, &state, after).expect("a state as it was saved");
    } else if what == 9 {
        state.truncate(24);
        state.extend_from_slice(raw);
        go_on(fresh, id, &state, after).ok();
    } else {
        for &(at, how, word) in &changes {
            change(&mut state, at, how, word);
        }
        go_on(fresh, id, &state, after).ok();
    }
}

fn change(state: &mut Vec<u8>, at: usize, how: u8, word: u64) {
    let at = at % (state.len() / 8 + 1) * 8;
    match how % 4 {
        0 => state.truncate(at),
        1 => drop(state.splice(at..at, word.to_le_bytes())),
        2 => drop(state.drain(at..(at + 8).min(state.len()))),
        _ => {
            if let Some(bytes) = state.get_mut(at..at + 8) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Restores and goes on; frames are frames, whatever the state said.
fn go_on(
    mut engine: Engine,
    id: u32,
    state: &[u8],
    events: &[featureplane_core::event::Event],
) -> Result<(), Error> {
    engine.restore(id, state)?;
    let mut sink = Packed::new(engine.layout());
    engine.run(events, &mut sink).ok();
    sink.check_each();
    let _ = engine.save(id);
    Ok(())
}
