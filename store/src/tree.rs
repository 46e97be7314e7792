//! Trees of stacks, root frames first, so that stacks with a common beginning share it.
//!
//! A stack is written as the frame that it shares with those before it and the frames that are new. So frames need no column for their
//! parents, and a reader makes each stack's frames in one go.

use super::bytes::Malformed;
use super::numbered::Numbered;

/// Frames that one stack may have; of deeper ones the leaf side is kept. The kernel program takes 1,024 user frames and 128 of the
/// kernel.
pub(super) const MAX_STACK_DEPTH: usize = 4096;

/// A frame with what is on its root side. Frames are numbered from 1, and a parent's number is smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// 0 for a root.
    pub(super) parent: u32,
    /// The frame's place, or its exact location, in the tree's table.
    pub(super) at: u32,
}

/// A tree in the making.
#[derive(Default)]
pub(super) struct GrowingTree(Numbered<Node>);

/// What became of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grown {
    /// 0 for a stack without frames.
    pub(super) leaf: u32,
    /// The frame nearest to the leaf that was there before; 0 for none.
    pub(super) shared: u32,
}

impl GrowingTree {
    /// The number of a frame, which is added if it is new.
    pub(super) fn node(&mut self, node: Node) -> u32 {
        self.0.number(node) + 1
    }

    /// Adds a whole stack. What is new of it gets numbers without a gap.
    pub(super) fn stack(&mut self, root_first: impl Iterator<Item = u32>) -> Grown {
        let before = self.0.len() as u32;
        let mut grown = Grown { leaf: 0, shared: 0 };
        for at in root_first {
            grown.leaf = self.node(Node { parent: grown.leaf, at });
            if grown.leaf <= before {
                grown.shared = grown.leaf;
            }
        }
        grown
    }

    pub(super) fn nodes(&self) -> &[Node] {
        self.0.all()
    }

    pub(super) fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// A tree as it is read.
#[derive(Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    depths: Vec<u16>,
}

impl Tree {
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A frame by its number.
    pub(super) fn node(&self, number: u32) -> Result<Node, Malformed> {
        let place = (number as usize).checked_sub(1).and_then(|place| self.nodes.get(place));
        place.copied().ok_or(Malformed("a stack that is not there"))
    }

    /// Frames of a stack.
    pub(super) fn depth(&self, number: u32) -> usize {
        let place = (number as usize).checked_sub(1).and_then(|place| self.depths.get(place));
        place.map_or(0, |depth| usize::from(*depth))
    }

    /// The frame that is `back` before the last one.
    pub(super) fn back(&self, back: u32) -> Result<u32, Malformed> {
        (self.nodes.len() as u32).checked_sub(back).ok_or(Malformed("a frame from before the first one"))
    }

    pub(super) fn reserve(&mut self, frames: usize) {
        self.nodes.reserve(frames);
        self.depths.reserve(frames);
    }

    /// Adds frames to one that is there, or makes a new root of the first one; the last one's number. Memory is taken only for what
    /// `at` gives.
    pub(super) fn add(
        &mut self,
        parent: u32,
        frames: usize,
        mut at: impl FnMut() -> Result<u32, Malformed>,
    ) -> Result<u32, Malformed> {
        let depth = self.depth(parent);
        if frames > MAX_STACK_DEPTH.saturating_sub(depth) {
            return Err(Malformed("a stack that is too deep"));
        }
        let mut leaf = parent;
        for depth in depth + 1..=depth + frames {
            self.nodes.push(Node { parent: leaf, at: at()? });
            self.depths.push(depth as u16);
            leaf = self.nodes.len() as u32;
        }
        Ok(leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_share_their_beginning() {
        let mut tree = GrowingTree::default();
        let mut stack = |frames: &[u32]| tree.stack(frames.iter().copied());
        assert_eq!(stack(&[7, 8, 9]), Grown { leaf: 3, shared: 0 });
        assert_eq!(stack(&[7, 8, 10, 9]), Grown { leaf: 5, shared: 2 });
        assert_eq!(stack(&[7, 8, 9]), Grown { leaf: 3, shared: 3 });
        assert_eq!(stack(&[7]), Grown { leaf: 1, shared: 1 });
        assert_eq!(stack(&[]), Grown { leaf: 0, shared: 0 });
        assert_eq!(tree.nodes().len(), 5);
    }

    #[test]
    fn a_stack_has_a_limit_and_no_loops() {
        let mut tree = Tree::default();
        let leaf = tree.add(0, MAX_STACK_DEPTH, || Ok(1)).unwrap();
        assert_eq!(tree.depth(leaf), MAX_STACK_DEPTH);
        assert_eq!(tree.add(leaf, 1, || Ok(1)), Err(Malformed("a stack that is too deep")));
        assert_eq!(tree.add(0, usize::MAX, || Ok(1)), Err(Malformed("a stack that is too deep")));
        assert_eq!((tree.back(0), tree.back(leaf)), (Ok(leaf), Ok(0)));
        assert!(tree.back(leaf + 1).is_err());
        assert!(tree.node(0).is_err() && tree.node(leaf + 1).is_err());
        // Every parent is a smaller number.
        assert!((1..).zip(tree.nodes()).all(|(number, node)| node.parent < number));
    }
}
