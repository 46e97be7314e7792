//! All stacks of a table as one prefix tree of boxes, depth first.
//!
//! A box is a function, inlined or not: what the page draws. Stacks are parted by their first box, then those of each box by their
//! second one, and so on, so that no node has to be looked up and no stack is compared as a whole. Siblings come by value,
//! largest first, so that the page need not sort.

use std::collections::HashMap;

use super::PageError;
use crate::report::StackTable;
use crate::report::stack_table::FunctionId;

/// Nodes that a page may have: some 50 bytes each in the browser.
pub const MAX_NODES: usize = 8 << 20;

/// Frame of the root.
pub(super) const NO_FRAME: u32 = u32::MAX;

/// What a box stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct PageFrame {
    pub(super) function: FunctionId,
    pub(super) inlined: bool,
}

/// The tree. Node 0 is the root; a node is followed by everything below it.
#[derive(Debug)]
pub(super) struct PrefixTree {
    pub(super) frames: Vec<PageFrame>,
    /// Of each node, into `frames`; [`NO_FRAME`] for the root.
    pub(super) frame: Vec<u32>,
    /// How far each node is from the root.
    pub(super) depth: Vec<u16>,
    /// Where each of the table's stacks ends.
    pub(super) node_of: Vec<u32>,
}

/// Builds the tree; `weights` are the values of the table's stacks that siblings are sorted by.
pub(super) fn build(table: &StackTable, weights: &[f64]) -> Result<PrefixTree, PageError> {
    let (frames, stacks) = boxes(table)?;
    let mut frame = vec![NO_FRAME];
    let mut parent = vec![0_u32];
    let mut own = vec![0.0_f64];
    let mut end_of = vec![0_u32; stacks.len()];
    // Stacks that share a node: a range of `order`, how deep the node is, and which it is.
    let mut order: Vec<(u32, u32)> = (0..stacks.len() as u32).map(|stack| (0, stack)).collect();
    let mut waiting = vec![(0..order.len(), 0, 0_u32)];
    while let Some((range, depth, node)) = waiting.pop() {
        let mut rest = &mut order[range.clone()];
        for (next, stack) in &mut *rest {
            *next = stacks.get(*stack).get(depth).copied().unwrap_or(NO_FRAME);
        }
        rest.sort_unstable();
        let mut start = range.start;
        while let Some((next, stack)) = rest.first().copied() {
            let length = rest.iter().take_while(|(other, _)| *other == next).count();
            let (group, others) = std::mem::take(&mut rest).split_at_mut(length);
            rest = others;
            let range = start..start + length;
            start = range.end;
            if next == NO_FRAME {
                for (_, stack) in group {
                    end_of[*stack as usize] = node;
                    own[node as usize] += weights.get(*stack as usize).copied().unwrap_or(0.0);
                }
                continue;
            }
            // What one stack has by itself is a chain.
            let new = if length == 1 { &stacks.get(stack)[depth..] } else { std::slice::from_ref(&next) };
            if frame.len() + new.len() > MAX_NODES {
                return Err(PageError::TooManyNodes);
            }
            let mut end = node;
            for next in new {
                parent.push(end);
                end = frame.len() as u32;
                frame.push(*next);
                own.push(0.0);
            }
            waiting.push((range, depth + new.len(), end));
        }
    }
    let mut total = own;
    for node in (1..total.len()).rev() {
        total[parent[node] as usize] += total[node];
    }
    largest_first(frames, &frame, &parent, &total, &end_of)
}

/// Stacks as boxes, root first, all of them in one piece of memory, since each level is looked at in their order.
struct BoxStacks {
    boxes: Vec<u32>,
    /// Where each stack begins, and where the last one ends.
    starts: Vec<usize>,
}

impl BoxStacks {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn get(&self, stack: u32) -> &[u32] {
        &self.boxes[self.starts[stack as usize]..self.starts[stack as usize + 1]]
    }
}

/// The distinct boxes in the order they come, and each stack as boxes.
fn boxes(table: &StackTable) -> Result<(Vec<PageFrame>, BoxStacks), PageError> {
    let mut frames = Vec::new();
    let mut known = HashMap::new();
    let mut of_frame = Vec::with_capacity(table.frames.len());
    for frame in &table.frames {
        if frame.function.0 as usize >= table.functions.len() {
            return Err(PageError::Dangling("frames' function"));
        }
        let wanted = PageFrame { function: frame.function, inlined: frame.inlined };
        of_frame.push(*known.entry(wanted).or_insert_with(|| {
            frames.push(wanted);
            frames.len() as u32 - 1
        }));
    }
    let mut stacks = BoxStacks { boxes: Vec::new(), starts: vec![0] };
    for stack in &table.stacks {
        for frame in stack {
            stacks.boxes.push(*of_frame.get(frame.0 as usize).ok_or(PageError::Dangling("stacks' frame"))?);
        }
        stacks.starts.push(stacks.boxes.len());
    }
    Ok((frames, stacks))
}

fn largest_first(
    frames: Vec<PageFrame>,
    frame: &[u32],
    parent: &[u32],
    total: &[f64],
    end_of: &[u32],
) -> Result<PrefixTree, PageError> {
    // Children, those of each node together.
    let mut starts = vec![0_usize; frame.len() + 1];
    for parent in &parent[1..] {
        starts[*parent as usize + 1] += 1;
    }
    for node in 0..frame.len() {
        starts[node + 1] += starts[node];
    }
    let mut children = vec![0_u32; frame.len() - 1];
    let mut filled = starts.clone();
    for node in 1..frame.len() {
        let place = &mut filled[parent[node] as usize];
        children[*place] = node as u32;
        *place += 1;
    }
    let mut tree = PrefixTree {
        frames,
        frame: Vec::with_capacity(frame.len()),
        depth: Vec::with_capacity(frame.len()),
        node_of: Vec::new(),
    };
    let mut place = vec![0_u32; frame.len()];
    let mut waiting = vec![(0_u32, 0_u16)];
    while let Some((node, depth)) = waiting.pop() {
        place[node as usize] = tree.frame.len() as u32;
        tree.frame.push(frame[node as usize]);
        tree.depth.push(depth);
        let below = &mut children[starts[node as usize]..starts[node as usize + 1]];
        // The last one waiting comes first.
        below.sort_unstable_by(|a, b| {
            let (left, right) = (*a as usize, *b as usize);
            total[left].total_cmp(&total[right]).then(frame[right].cmp(&frame[left]))
        });
        if !below.is_empty() {
            let deeper = depth.checked_add(1).ok_or(PageError::TooDeep)?;
            waiting.extend(below.iter().map(|child| (*child, deeper)));
        }
    }
    tree.node_of = end_of.iter().map(|node| place[*node as usize]).collect();
    Ok(tree)
}
