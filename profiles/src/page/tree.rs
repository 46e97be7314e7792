//! All stacks of a table as one prefix tree of boxes, depth first.
//!
//! A box is a function, inlined or not: what the page draws. Stacks are sorted and each shares a prefix with the one before
//! it, so that no node has to be looked up. Siblings come by value, largest first, so that the page need not sort.

use std::collections::HashMap;

use super::PageError;
use crate::report::StackTable;
use crate::report::stack_table::{FunctionId, StackId};

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
    let mut order: Vec<u32> = (0..stacks.len() as u32).collect();
    order.sort_by(|a, b| stacks[*a as usize].cmp(&stacks[*b as usize]));

    // Depth first: `path` are the nodes of the stack before, `path[0]` the root.
    let mut frame = vec![NO_FRAME];
    let mut parent = vec![0_u32];
    let mut own = vec![0.0_f64];
    let mut end_of = vec![0_u32; stacks.len()];
    let mut path = vec![0_u32];
    for index in order {
        let stack = &stacks[index as usize];
        let shared =
            path[1..].iter().zip(stack).take_while(|(node, wanted)| frame[**node as usize] == **wanted).count();
        path.truncate(shared + 1);
        for wanted in &stack[shared..] {
            if frame.len() >= MAX_NODES {
                return Err(PageError::TooManyNodes);
            }
            parent.push(path[path.len() - 1]);
            path.push(frame.len() as u32);
            frame.push(*wanted);
            own.push(0.0);
        }
        let end = path[path.len() - 1];
        end_of[index as usize] = end;
        own[end as usize] += weights.get(index as usize).copied().unwrap_or(0.0);
    }
    let mut total = own;
    for node in (1..total.len()).rev() {
        total[parent[node] as usize] += total[node];
    }
    largest_first(frames, &frame, &parent, &total, &end_of)
}

/// The distinct boxes in the order they come, and each stack as boxes, root first.
fn boxes(table: &StackTable) -> Result<(Vec<PageFrame>, Vec<Vec<u32>>), PageError> {
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
    let mut stacks = Vec::with_capacity(table.stacks.len());
    for index in 0..table.stacks.len() as u32 {
        let places = table.frames_of(StackId(index)).iter().map(|frame| of_frame.get(frame.0 as usize).copied());
        stacks.push(places.collect::<Option<Vec<u32>>>().ok_or(PageError::Dangling("stacks' frame"))?);
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
    let mut children: Vec<Vec<u32>> = vec![Vec::new(); frame.len()];
    for node in 1..frame.len() {
        children[parent[node] as usize].push(node as u32);
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
        let below = &mut children[node as usize];
        // The last one waiting comes first.
        below.sort_by(|a, b| {
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
