//! Nodes that read both channels: they run event by event, as in streaming, on what the others hold.

use super::super::nodes::{Nodes, Orders};
use super::steps::Steps;
use super::tracks::{self, Channel, Class, Node};

/// The nodes of class `Row`, and what they read of the others.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    orders: Orders,
    own: Vec<usize>,
    /// Inputs of other classes, by the channel whose ticks move them.
    watched: [Vec<usize>; 2],
}

impl Rows {
    pub(super) fn new(tracks: &[Node], nodes: &Nodes) -> Self {
        let is_row = |at: usize| tracks[at].class == Class::Row;
        let of = |channel: Channel| -> Vec<usize> {
            let reads = |wire: &super::super::nodes::Reads| match channel {
                Channel::Book => wire.book,
                Channel::Trades => wire.trades,
            };
            (0..tracks.len())
                .filter(|&at| !is_row(at) && reads(&nodes.wiring[at].reads))
                .filter(|at| {
                    (0..tracks.len()).any(|by| is_row(by) && nodes.wiring[by].reads_from().contains(at))
                })
                .collect()
        };
        Self {
            orders: Orders::of(&nodes.wiring, is_row),
            own: (0..tracks.len()).filter(|&at| is_row(at)).collect(),
            watched: [of(Channel::Book), of(Channel::Trades)],
        }
    }

    /// Runs the steps; everything else is computed.
    pub(super) fn run(&mut self, tracks: &mut [Node], nodes: &mut Nodes, steps: &Steps) {
        if self.own.is_empty() {
            return;
        }
        for watched in &self.watched {
            tracks::lay_out(watched, tracks, &steps.books);
        }
        std::mem::swap(&mut self.orders, &mut nodes.orders);
        let mut views = steps
            .books
            .views()
            .zip(steps.books.spans())
            .flat_map(|(view, (_, ticks))| std::iter::repeat_n(view, ticks));
        let (book, trades) = (steps.of(Channel::Book), steps.of(Channel::Trades));
        let (mut book_tick, mut trade_tick) = (0, 0);
        for (step, &clock) in steps.clocks().iter().enumerate() {
            nodes.begin(clock, false);
            while trade_tick < trades.ends[step] {
                trade_tick += 1;
                self.show_tick(Channel::Trades, trade_tick, tracks, nodes);
                nodes.run_trade(&steps.trades[trade_tick - 1], false);
            }
            if book_tick < book.ends[step] {
                book_tick += 1;
                self.show_tick(Channel::Book, book_tick, tracks, nodes);
                nodes.run_book(views.next().flatten().as_ref(), clock);
            }
            for &at in self.watched.iter().flatten() {
                if let Class::Steps(_) = tracks[at].class {
                    nodes.cells[at] = tracks[at].steps.cell(step + 1);
                }
            }
            nodes.finish(clock, false);
            for &at in &self.own {
                tracks[at].steps.put(step + 1, nodes.cells[at]);
            }
        }
        std::mem::swap(&mut self.orders, &mut nodes.orders);
        for &at in &self.own {
            let any = tracks[at].steps.state[..=steps.len()].iter().fold(0, |any, state| any | state);
            tracks[at].steps.end(any);
        }
    }

    /// Shows the watched nodes of a channel as they are at one of its ticks, counted from 1.
    fn show_tick(&self, channel: Channel, tick: usize, tracks: &[Node], nodes: &mut Nodes) {
        nodes.advanced.fill(false);
        for &at in &self.watched[usize::from(channel == Channel::Trades)] {
            nodes.cells[at] = tracks[at].ticks.cell(tick);
            nodes.advanced[at] = match channel {
                Channel::Book => nodes.cells[at].is_defined(),
                Channel::Trades => tracks[at].advanced[tick - 1],
            };
        }
    }
}
