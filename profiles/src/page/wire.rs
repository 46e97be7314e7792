//! [`StackTable`] → the page's container: a JSON head and columns of numbers. `web/FORMAT.md` describes it.
//!
//! Negative values (a difference of two profiles) have no width: such samples are left out, and a note in the page counts them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::facts::{Fact, facts};
use super::tree::{PrefixTree, build};
use super::{PageError, PageOptions};
use crate::profile::LocationKind;
use crate::report::StackTable;
use crate::report::stack_table::{StackSample, TextId};
use crate::report::thousands;

const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"EVFPAGE1";
/// Magic, length of the head, reserved.
const HEAD_START: usize = 16;
const NO_OWNER: u32 = u32::MAX;

const KINDS: [LocationKind; 10] = [
    LocationKind::Native,
    LocationKind::Go,
    LocationKind::Kernel,
    LocationKind::KernelModule,
    LocationKind::Bpf,
    LocationKind::Vdso,
    LocationKind::Jit,
    LocationKind::Interpreter,
    LocationKind::Marker,
    LocationKind::Unknown,
];

#[derive(Serialize)]
struct Head<'table> {
    version: u32,
    title: &'table str,
    facts: Vec<Fact>,
    notes: Vec<String>,
    sample_types: Vec<Type<'table>>,
    default_type: usize,
    kinds: Vec<&'static str>,
    strings: &'table [String],
    columns: &'table BTreeMap<String, Place>,
}

#[derive(Serialize)]
struct Type<'table> {
    name: &'table str,
    unit: &'table str,
}

#[derive(Serialize)]
struct Place {
    r#type: &'static str,
    offset: usize,
    length: usize,
}

/// Columns one after the other, each from a multiple of 8 bytes on.
#[derive(Default)]
struct Columns {
    places: BTreeMap<String, Place>,
    bytes: Vec<u8>,
}

impl Columns {
    fn u16(&mut self, name: &str, values: impl IntoIterator<Item = u16>) {
        self.add(name, "u16", values.into_iter().map(u16::to_le_bytes));
    }

    fn u32(&mut self, name: &str, values: impl IntoIterator<Item = u32>) {
        self.add(name, "u32", values.into_iter().map(u32::to_le_bytes));
    }

    fn f64(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        self.add(name, "f64", values.into_iter().map(f64::to_le_bytes));
    }

    fn add<const SIZE: usize>(&mut self, name: &str, kind: &'static str, values: impl Iterator<Item = [u8; SIZE]>) {
        let offset = self.bytes.len();
        self.bytes.reserve(values.size_hint().0 * SIZE);
        for value in values {
            self.bytes.extend_from_slice(&value);
        }
        let length = (self.bytes.len() - offset) / SIZE;
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.places.insert(name.to_owned(), Place { r#type: kind, offset, length });
    }
}

/// A sample as a row of the page: what rows are merged by, then the values.
struct Row {
    node: u32,
    owner: u32,
    line: u32,
    reason: u32,
    values: Vec<f64>,
}

impl Row {
    fn key(&self) -> (u32, u32, u32, u32) {
        (self.node, self.owner, self.line, self.reason)
    }
}

/// The bytes that the page reads, also those that a live page fetches.
///
/// # Errors
/// [`PageError`]: nothing to show, too many nodes, or a table that is not consistent.
pub fn container(table: &StackTable, options: &PageOptions) -> Result<Vec<u8>, PageError> {
    if table.sample_types.is_empty() {
        return Err(PageError::NoSampleType);
    }
    let default_type = table.default_type.min(table.sample_types.len() - 1);
    let (samples, negative) = usable(table);
    let mut weights = vec![0.0; table.stacks.len()];
    for sample in &samples {
        let weight = weights.get_mut(sample.stack.0 as usize).ok_or(PageError::Dangling("samples' stack"))?;
        *weight += sample.values.get(default_type).copied().unwrap_or(0) as f64;
    }
    let tree = build(table, &weights)?;
    let rows = rows(table, &samples, &tree)?;
    let columns = columns(table, &tree, &rows)?;
    let mut notes = options.notes.clone();
    if negative > 0 {
        notes.push(format!("{} samples with a negative value are not shown.", thousands(negative)));
    }
    if table.cut_stacks > 0 {
        notes.push(format!(
            "{} stacks were too deep and are cut; their leaf side is shown.",
            thousands(table.cut_stacks)
        ));
    }
    let head = Head {
        version: VERSION,
        title: &options.title,
        facts: facts(table),
        notes,
        sample_types: table.sample_types.iter().map(|known| Type { name: &known.name, unit: &known.unit }).collect(),
        default_type,
        kinds: KINDS.iter().map(|kind| kind.name()).collect(),
        strings: &table.strings,
        columns: &columns.places,
    };
    let json = serde_json::to_vec(&head).map_err(PageError::Head)?;
    let length = u32::try_from(json.len()).map_err(|_| PageError::TooLarge { bytes: json.len() })?;
    let mut bytes = Vec::with_capacity(HEAD_START + json.len() + 8 + columns.bytes.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&json);
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    bytes.extend_from_slice(&columns.bytes);
    Ok(bytes)
}

/// The samples without negative values, and how many have one.
fn usable(table: &StackTable) -> (Vec<&StackSample>, u64) {
    let samples: Vec<_> = table.samples.iter().filter(|sample| sample.values.iter().all(|value| *value >= 0)).collect();
    let negative = table.samples.len() - samples.len();
    (samples, negative as u64)
}

/// One row for each distinct key, in the order of the keys.
fn rows(table: &StackTable, samples: &[&StackSample], tree: &PrefixTree) -> Result<Vec<Row>, PageError> {
    let mut rows = Vec::with_capacity(samples.len());
    for sample in samples {
        let node = tree.node_of.get(sample.stack.0 as usize).ok_or(PageError::Dangling("samples' stack"))?;
        let owner = match sample.owner {
            Some(owner) if owner.0 as usize >= table.owners.len() => return Err(PageError::Dangling("samples' owner")),
            owner => owner.map_or(NO_OWNER, |owner| owner.0),
        };
        let leaf = table.frames_of(sample.stack).last().and_then(|frame| table.frames.get(frame.0 as usize));
        rows.push(Row {
            node: *node,
            owner,
            line: leaf.map_or(0, |frame| clamped(frame.line)),
            reason: text(table, sample.unwind)?,
            values: (0..table.sample_types.len())
                .map(|index| sample.values.get(index).copied().unwrap_or(0) as f64)
                .collect(),
        });
    }
    rows.sort_by_key(Row::key);
    rows.dedup_by(|row, kept| {
        let same = row.key() == kept.key();
        if same {
            kept.values.iter_mut().zip(&row.values).for_each(|(sum, value)| *sum += value);
        }
        same
    });
    Ok(rows)
}

fn columns(table: &StackTable, tree: &PrefixTree, rows: &[Row]) -> Result<Columns, PageError> {
    let mut columns = Columns::default();
    let texts = |ids: &mut dyn Iterator<Item = TextId>| ids.map(|id| text(table, id)).collect::<Result<Vec<u32>, _>>();
    let functions = &table.functions;
    columns.u32("functions.name", texts(&mut functions.iter().map(|function| function.name))?);
    columns.u32("functions.file", texts(&mut functions.iter().map(|function| function.file))?);
    columns.u32("functions.line", functions.iter().map(|function| clamped(function.start_line)));
    columns.u32("functions.mapping", texts(&mut functions.iter().map(|function| function.mapping))?);
    columns.u32("functions.kind", functions.iter().map(|function| kind_index(function.kind)));
    columns.u32("frames.function", tree.frames.iter().map(|frame| frame.function.0));
    columns.u32("frames.inlined", tree.frames.iter().map(|frame| u32::from(frame.inlined)));
    columns.u32("nodes.frame", tree.frame.iter().copied());
    columns.u16("nodes.depth", tree.depth.iter().copied());
    columns.f64("owners.pid", table.owners.iter().map(|owner| owner.pid as f64));
    columns.u32("owners.process", texts(&mut table.owners.iter().map(|owner| owner.process))?);
    columns.f64("owners.tid", table.owners.iter().map(|owner| owner.tid as f64));
    columns.u32("owners.thread", texts(&mut table.owners.iter().map(|owner| owner.thread))?);
    columns.u32("rows.owner", rows.iter().map(|row| row.owner));
    columns.u32("rows.node", rows.iter().map(|row| row.node));
    columns.u32("rows.line", rows.iter().map(|row| row.line));
    columns.u32("rows.reason", rows.iter().map(|row| row.reason));
    for index in 0..table.sample_types.len() {
        columns.f64(&format!("rows.value.{index}"), rows.iter().map(|row| row.values[index]));
    }
    Ok(columns)
}

fn text(table: &StackTable, id: TextId) -> Result<u32, PageError> {
    if (id.0 as usize) < table.strings.len() { Ok(id.0) } else { Err(PageError::Dangling("text")) }
}

/// Lines that are not lines are unknown.
fn clamped(line: i64) -> u32 {
    u32::try_from(line).unwrap_or(0)
}

fn kind_index(kind: LocationKind) -> u32 {
    // Unknown is the last one.
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1) as u32
}
