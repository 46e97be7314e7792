//! pprof profile → [`StackTable`], and sums of samples → [`StackTable`] as their profile would become.
//!
//! Works on any profile, checked or not: an id or index that leads nowhere shows as unknown. Memory is bounded by
//! [`MAX_STACK_FRAMES`] and [`MAX_TOTAL_FRAMES`], since a hostile profile can name one long location in many samples.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use pprof_proto::{Label, Location, Mapping, Profile, Sample};
use unwind::end::End;

use super::kind::{Origin, kind};
use super::stack_table::{
    Frame, FrameId, FunctionId, MAX_STACK_FRAMES, Owner, OwnerId, SampleType, StackId, StackSample, StackTable,
    TableFunction, TextId,
};
use crate::profile::pprof::{EncodeError, ProfileInfo, TRUNCATED, Vocabulary, encode_parts, label};
use crate::profile::{Batch, LocationKind, StackIndex, beginning};

/// Frames that all distinct stacks together may have (4 bytes each).
pub const MAX_TOTAL_FRAMES: usize = 64 << 20;

/// How much of a file's name stands before an address, bytes (Linux allows no more): each address gets a text of its own.
const MAX_SHOWN_FILE_NAME: usize = 255;

/// A profile that is too large for a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the profile's stacks expand to more than {MAX_TOTAL_FRAMES} frames")]
pub struct TooManyFrames;

/// Sums that make no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// A batch that does not hold together.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Too large.
    #[error(transparent)]
    TooManyFrames(#[from] TooManyFrames),
}

impl StackTable {
    /// Makes the table that the profile of `encode_sums` would become, without the profile: in that every sample has a copy of its
    /// stack and its labels. Samples keep the batch's order, and those that differ in nothing are not made one.
    ///
    /// # Errors
    /// [`SumsError`].
    pub fn from_sums(
        batch: &Batch,
        counts: &[u64],
        info: &ProfileInfo,
        vocabulary: &Vocabulary,
    ) -> Result<StackTable, SumsError> {
        let parts = encode_parts(batch, counts, info, vocabulary)?;
        let mut builder = Builder::new(&parts.profile);
        let labels: Vec<_> = parts.labels.iter().map(|labels| builder.labels(labels)).collect();
        let mut stacks: HashMap<(StackIndex, bool), StackId> = HashMap::new();
        let mut locations = Vec::new();
        let counts = counts.iter().copied().chain(std::iter::repeat(1));
        for ((sample, count), set) in batch.samples.iter().zip(counts).zip(&parts.labels_of) {
            let key = (sample.stack, sample.end == End::Truncated);
            let stack = match stacks.get(&key) {
                Some(stack) => *stack,
                None => {
                    parts.stack(batch, key, &mut locations);
                    let stack = builder.stack(&locations)?;
                    stacks.insert(key, stack);
                    stack
                }
            };
            let (owner, unwind) = labels.get(*set as usize).copied().unwrap_or_default();
            let values = [count, sample.weight_ns].map(|value| i64::try_from(value).unwrap_or(i64::MAX)).to_vec();
            builder.table.samples.push(StackSample { stack, owner, unwind, values });
        }
        Ok(builder.table)
    }

    /// Makes the table of a profile.
    ///
    /// # Errors
    /// The stacks expand to more than [`MAX_TOTAL_FRAMES`] frames.
    pub fn from_profile(profile: &Profile) -> Result<StackTable, TooManyFrames> {
        let mut builder = Builder::new(profile);
        for sample in &profile.sample {
            builder.sample(sample)?;
        }
        Ok(builder.table)
    }
}

/// What a label means to us. Other profilers' spellings are read too.
#[derive(Clone, Copy)]
enum Role {
    Pid,
    Process,
    Tid,
    Thread,
    Unwind,
}

fn role(key: &str) -> Option<Role> {
    match key {
        label::PID | "process_id" | "process id" => Some(Role::Pid),
        label::COMM | "process_name" | "process name" => Some(Role::Process),
        label::THREAD_ID | "thread_id" | "tid" => Some(Role::Tid),
        label::THREAD_NAME | "thread_name" | "thread" => Some(Role::Thread),
        label::UNWIND => Some(Role::Unwind),
        _ => None,
    }
}

/// The last part of a path.
pub(super) fn basename(path: &str) -> &str {
    // `[anon:/dev/x]` is a name as a whole.
    if path.starts_with('[') {
        return path;
    }
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// Content → position, for one of the tables.
struct Positions<T>(HashMap<T, u32>);

impl<T: Eq + Hash + Clone> Positions<T> {
    fn of(&mut self, content: T, all: &mut Vec<T>) -> u32 {
        let next = all.len() as u32;
        *self.0.entry(content).or_insert_with_key(|content| {
            all.push(content.clone());
            next
        })
    }
}

/// Frames by location's id. Those of most profiles count from 1, and every frame of every stack asks.
struct Expanded {
    first: Vec<Option<Vec<FrameId>>>,
    others: HashMap<u64, Vec<FrameId>>,
}

impl Expanded {
    fn get(&self, id: u64) -> Option<&[FrameId]> {
        match self.first.get(usize::try_from(id).unwrap_or(usize::MAX)) {
            Some(frames) => frames.as_deref(),
            None => self.others.get(&id).map(Vec::as_slice),
        }
    }

    fn insert(&mut self, id: u64, frames: Vec<FrameId>) {
        match self.first.get_mut(usize::try_from(id).unwrap_or(usize::MAX)) {
            Some(slot) => *slot = Some(frames),
            None => drop(self.others.insert(id, frames)),
        }
    }
}

struct Builder<'profile> {
    profile: &'profile Profile,
    table: StackTable,
    texts: Positions<String>,
    functions: Positions<TableFunction>,
    frames: Positions<Frame>,
    /// Of the table's stacks, too many to have twice, with their hashes.
    stacks: HashTable<(u64, u32)>,
    hasher: DefaultHashBuilder,
    owners: Positions<Owner>,
    locations: HashMap<u64, &'profile Location>,
    mappings: HashMap<u64, &'profile Mapping>,
    profile_functions: HashMap<u64, &'profile pprof_proto::Function>,
    /// A location's frames, leaf first.
    expanded: Expanded,
    total_frames: usize,
}

impl<'profile> Builder<'profile> {
    fn new(profile: &'profile Profile) -> Self {
        let mut builder = Builder {
            profile,
            table: StackTable::default(),
            texts: Positions(HashMap::new()),
            functions: Positions(HashMap::new()),
            frames: Positions(HashMap::new()),
            stacks: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            owners: Positions(HashMap::new()),
            locations: profile.location.iter().map(|location| (location.id, location)).collect(),
            mappings: profile.mapping.iter().map(|mapping| (mapping.id, mapping)).collect(),
            profile_functions: profile.function.iter().map(|function| (function.id, function)).collect(),
            expanded: Expanded { first: vec![None; profile.location.len() + 1], others: HashMap::new() },
            total_frames: 0,
        };
        builder.text("");
        let string = |index: i64| string(profile, index).to_owned();
        let types = profile.sample_type.iter();
        builder.table.sample_types =
            types.map(|kind| SampleType { name: string(kind.r#type), unit: string(kind.unit) }).collect();
        let preferred = string(profile.default_sample_type);
        let last = builder.table.sample_types.len().saturating_sub(1);
        builder.table.default_type = builder.table.sample_type(&preferred).unwrap_or(last);
        builder.table.time_ns = profile.time_nanos;
        builder.table.duration_ns = profile.duration_nanos;
        builder.table.period = profile.period;
        builder.table.comments = profile.comment.iter().map(|comment| string(*comment)).collect();
        let main = profile.mapping.first().map_or("", |mapping| basename(self::string(profile, mapping.filename)));
        builder.table.main_binary = builder.text(main);
        builder
    }

    fn text(&mut self, text: &str) -> TextId {
        if let Some(found) = self.texts.0.get(text) {
            return TextId(*found);
        }
        TextId(self.texts.of(text.to_owned(), &mut self.table.strings))
    }

    fn sample(&mut self, sample: &Sample) -> Result<(), TooManyFrames> {
        let stack = self.stack(&sample.location_id)?;
        let (owner, unwind) = self.labels(&sample.label);
        let mut values = sample.value.clone();
        values.resize(self.table.sample_types.len(), 0);
        self.table.samples.push(StackSample { stack, owner, unwind, values });
        Ok(())
    }

    fn stack(&mut self, locations: &[u64]) -> Result<StackId, TooManyFrames> {
        let mut frames: Vec<FrameId> = Vec::with_capacity(locations.len().min(MAX_STACK_FRAMES));
        let mut cut = false;
        for location in locations {
            if self.expanded.get(*location).is_none() {
                self.expand(*location);
            }
            let more = self.expanded.get(*location).unwrap_or_default();
            let room = MAX_STACK_FRAMES - frames.len();
            frames.extend(more.iter().take(room));
            if more.len() > room {
                cut = true;
                break;
            }
        }
        if cut {
            self.table.cut_stacks += 1;
            let root = self.frame(Origin { path: "", has_build_id: false }, TRUNCATED, "", 0, (0, false));
            frames.push(root);
        }
        frames.reverse();
        let Builder { table: StackTable { stacks, .. }, stacks: positions, hasher, total_frames, .. } = self;
        let hash = hasher.hash_one(&frames);
        let same = |(known, position): &(u64, u32)| *known == hash && stacks.get(*position as usize) == Some(&frames);
        if let Some((_, position)) = positions.find(hash, same) {
            return Ok(StackId(*position));
        }
        *total_frames += frames.len();
        if *total_frames > MAX_TOTAL_FRAMES {
            return Err(TooManyFrames);
        }
        let position = stacks.len() as u32;
        stacks.push(frames);
        positions.insert_unique(hash, (hash, position), |(hash, _)| *hash);
        Ok(StackId(position))
    }

    /// Makes a location's frames.
    fn expand(&mut self, id: u64) {
        let profile = self.profile;
        let location = self.locations.get(&id).copied();
        let mapping = location.and_then(|location| self.mappings.get(&location.mapping_id).copied());
        let path = mapping.map_or("", |mapping| string(profile, mapping.filename));
        let has_build_id = mapping.is_some_and(|mapping| !string(profile, mapping.build_id).is_empty());
        let origin = Origin { path, has_build_id };
        let unknown = unknown_name(location, mapping, path);
        let lines = location.map_or(&[][..], |location| &location.line);
        let mut frames = Vec::with_capacity(lines.len().max(1));
        for (position, line) in lines.iter().enumerate() {
            let function = self.profile_functions.get(&line.function_id).copied();
            let mut name = function.map_or("", |function| string(profile, function.name));
            if name.is_empty() {
                name = function.map_or("", |function| string(profile, function.system_name));
            }
            let file = function.map_or("", |function| string(profile, function.filename));
            let start_line = function.map_or(0, |function| function.start_line);
            let place = (line.line, position + 1 < lines.len());
            let frame = if name.is_empty() {
                self.unnamed(origin, &unknown, file, place)
            } else {
                self.frame(origin, name, file, start_line, place)
            };
            frames.push(frame);
        }
        if frames.is_empty() {
            frames.push(self.unnamed(origin, &unknown, "", (0, false)));
        }
        self.expanded.insert(id, frames);
    }

    /// `place` is the line and whether the frame is inlined.
    fn frame(&mut self, origin: Origin<'_>, name: &str, file: &str, start_line: i64, place: (i64, bool)) -> FrameId {
        let kind = kind(origin, name, file);
        self.intern(origin.path, name, file, start_line, kind, true, place)
    }

    fn unnamed(&mut self, origin: Origin<'_>, shown: &str, file: &str, place: (i64, bool)) -> FrameId {
        let kind = kind(origin, "", file);
        self.intern(origin.path, shown, file, 0, kind, false, place)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the two structs that it makes")]
    fn intern(
        &mut self,
        path: &str,
        name: &str,
        file: &str,
        start_line: i64,
        kind: LocationKind,
        named: bool,
        (line, inlined): (i64, bool),
    ) -> FrameId {
        let (name, file, mapping) = (self.text(name), self.text(file), self.text(basename(path)));
        let function = TableFunction { name, file, start_line, mapping, kind, named };
        let function = FunctionId(self.functions.of(function, &mut self.table.functions));
        FrameId(self.frames.of(Frame { function, line, inlined }, &mut self.table.frames))
    }

    fn labels(&mut self, labels: &[Label]) -> (Option<OwnerId>, TextId) {
        let profile = self.profile;
        let mut owner = Owner { pid: 0, process: TextId(0), tid: 0, thread: TextId(0) };
        let mut unwind = TextId(0);
        for label in labels {
            let Some(role) = role(string(profile, label.key)) else { continue };
            let value = string(profile, label.str);
            // Some profilers write ids as texts.
            let number = if label.str == 0 { label.num } else { value.parse().unwrap_or(0) };
            match role {
                Role::Pid => owner.pid = number,
                Role::Tid => owner.tid = number,
                Role::Process => owner.process = self.text(value),
                Role::Thread => owner.thread = self.text(value),
                Role::Unwind => unwind = self.text(value),
            }
        }
        let known = owner != Owner { pid: 0, process: TextId(0), tid: 0, thread: TextId(0) };
        let owner = known.then(|| OwnerId(self.owners.of(owner, &mut self.table.owners)));
        (owner, unwind)
    }
}

fn string(profile: &Profile, index: i64) -> &str {
    usize::try_from(index).ok().and_then(|index| profile.string_table.get(index)).map_or("", |text| text)
}

/// `[unknown] libfoo.so+0x1234`; an address in a mapping that was not normalised is shown relative to the file.
fn unknown_name(location: Option<&Location>, mapping: Option<&Mapping>, path: &str) -> String {
    let Some(location) = location else { return "[unknown]".to_owned() };
    let address = match mapping {
        Some(mapping) if mapping.memory_start != 0 && location.address >= mapping.memory_start => {
            (location.address - mapping.memory_start).saturating_add(mapping.file_offset)
        }
        _ => location.address,
    };
    match basename(path) {
        "" => format!("[unknown] {address:#x}"),
        name => format!("[unknown] {}+{address:#x}", beginning(name, MAX_SHOWN_FILE_NAME)),
    }
}

#[cfg(test)]
mod tests {
    use super::basename;

    #[test]
    fn the_last_part_of_a_path_is_shown() {
        let cases =
            [("/usr/bin/x", "x"), ("x", "x"), ("", ""), ("/", "/"), ("a/b/", "b"), ("[anon:/dev/x]", "[anon:/dev/x]")];
        for (path, expected) in cases {
            assert_eq!(basename(path), expected, "{path:?}");
        }
    }
}
