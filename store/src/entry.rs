//! The things that a dictionary numbers, as bytes and back. Equal things have equal bytes, so that they get one number.
//!
//! They are the batch's own types; their indices count within the dictionary's tables instead of the batch's.

use std::sync::Arc;

use unwind::end::End;

use super::bytes::{Bytes, Malformed, put};
use profiles::profile::{
    Function, FunctionIndex, Identity, IdentityIndex, Line, Location, LocationKind, Mapping, MappingIndex, Process,
    StringIndex,
};

/// A thread as it was at its samples' time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// Into the table of processes.
    pub(super) process: u32,
    pub(super) tid: u32,
    /// Into the owners' texts.
    pub(super) name: u32,
}

/// A stack with what is to be known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    /// The leaf's node in the tree of stacks; 0 is a stack without frames.
    pub(super) node: u32,
    pub(super) end: End,
    /// Bits of [`unwind::end::provenance`].
    pub(super) provenance: u8,
}

/// A location as far as a flame graph knows it: what all locations in the same functions have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: LocationKind,
    pub(super) mapping: Option<MappingIndex>,
    /// Where no name is known, or not that of every inlined function: then the address is all that tells places apart.
    pub(super) address: Option<u64>,
    /// Innermost first.
    pub(super) functions: Vec<FunctionIndex>,
}

impl Place {
    /// `named` says whether there are functions and all of them have names.
    pub(super) fn of(location: &Location, named: bool) -> Place {
        Place {
            kind: location.kind,
            mapping: location.mapping,
            address: (!named).then_some(location.address),
            functions: location.lines.iter().map(|line| line.function).collect(),
        }
    }

    /// As a location, with the innermost function's line, which says nothing if there is no function.
    pub(super) fn with_line(self, line: u32) -> Location {
        let lines = self.functions.into_iter().map(|function| Line { function, line: 0, column: 0 });
        let mut lines: Vec<Line> = lines.collect();
        if let Some(innermost) = lines.first_mut() {
            innermost.line = line;
        }
        Location { kind: self.kind, mapping: self.mapping, address: self.address.unwrap_or(0), lines }
    }
}

/// A stack by function: what a flame graph shows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// The leaf's node in the tree of places; 0 is a stack without frames.
    pub(super) node: u32,
    /// The innermost line of the leaf, 0 if there is none.
    pub(super) line: u32,
    pub(super) end: End,
    /// Bits of [`unwind::end::provenance`].
    pub(super) provenance: u8,
}

/// In the order of their numbers in a file: new ones come last.
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

/// Kinds have no numbers of their own; this one has to be told of each new kind.
fn kind_number(kind: LocationKind) -> u8 {
    match kind {
        LocationKind::Native => 0,
        LocationKind::Go => 1,
        LocationKind::Kernel => 2,
        LocationKind::KernelModule => 3,
        LocationKind::Bpf => 4,
        LocationKind::Vdso => 5,
        LocationKind::Jit => 6,
        LocationKind::Interpreter => 7,
        LocationKind::Marker => 8,
        LocationKind::Unknown => 9,
    }
}

fn put_all(out: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        put(out, u64::from(*number));
    }
}

/// 0 for none, else one more than the index.
fn put_option(out: &mut Vec<u8>, index: Option<u32>) {
    put(out, index.map_or(0, |index| u64::from(index) + 1));
}

fn option(bytes: &mut Bytes<'_>) -> Result<Option<u32>, Malformed> {
    let number = bytes.number()?.checked_sub(1);
    number.map(|index| u32::try_from(index).map_err(|_| Malformed("an index beyond 32 bits"))).transpose()
}

/// Reads the whole of an entry.
fn whole<'bytes, T>(
    entry: &'bytes [u8],
    read: impl FnOnce(&mut Bytes<'bytes>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut bytes = Bytes(entry);
    let value = read(&mut bytes)?;
    bytes.end()?;
    Ok(value)
}

pub(super) fn put_mapping(out: &mut Vec<u8>, mapping: &Mapping) {
    put_all(out, &[mapping.filename.0, mapping.build_id.0]);
}

pub(super) fn mapping(entry: &[u8]) -> Result<Mapping, Malformed> {
    whole(entry, |bytes| Ok(Mapping { filename: StringIndex(bytes.small()?), build_id: StringIndex(bytes.small()?) }))
}

pub(super) fn put_function(out: &mut Vec<u8>, function: &Function) {
    put_all(out, &[function.name.0, function.system_name.0, function.filename.0, function.start_line]);
}

pub(super) fn function(entry: &[u8]) -> Result<Function, Malformed> {
    whole(entry, |bytes| {
        Ok(Function {
            name: StringIndex(bytes.small()?),
            system_name: StringIndex(bytes.small()?),
            filename: StringIndex(bytes.small()?),
            start_line: bytes.small()?,
        })
    })
}

/// Set in a place's kind if it has an address.
const HAS_ADDRESS: u8 = 0x80;

pub(super) fn put_place(out: &mut Vec<u8>, place: &Place) {
    let has_address = if place.address.is_some() { HAS_ADDRESS } else { 0 };
    out.push(kind_number(place.kind) | has_address);
    put_option(out, place.mapping.map(|mapping| mapping.0));
    if let Some(address) = place.address {
        put(out, address);
    }
    for function in &place.functions {
        put(out, u64::from(function.0));
    }
}

pub(super) fn place(entry: &[u8]) -> Result<Place, Malformed> {
    let (mut place, mut functions) = place_and_functions(entry)?;
    while functions.end().is_err() {
        place.functions.push(FunctionIndex(functions.small()?));
    }
    Ok(place)
}

/// A place without its functions, and their numbers.
pub(super) fn place_and_functions(entry: &[u8]) -> Result<(Place, Bytes<'_>), Malformed> {
    let mut bytes = Bytes(entry);
    let first = bytes.byte()?;
    let kind = KINDS.get(usize::from(first & !HAS_ADDRESS));
    let kind = *kind.ok_or(Malformed("a kind of location that is not known"))?;
    let mapping = option(&mut bytes)?.map(MappingIndex);
    let address = if first & HAS_ADDRESS == 0 { None } else { Some(bytes.number()?) };
    Ok((Place { kind, mapping, address, functions: Vec::new() }, bytes))
}

/// What a location adds to its place: the address, unless the place has it, and each function's line and column. `number` is the
/// place's, and `place` what it is.
pub(super) fn put_location(out: &mut Vec<u8>, number: u32, place: &Place, location: &Location) {
    put(out, u64::from(number));
    if place.address.is_none() {
        put(out, location.address);
    }
    for line in &location.lines {
        put_all(out, &[line.line, line.column]);
    }
}

/// The number of a location's place.
pub(super) fn place_number(entry: &[u8]) -> Result<u32, Malformed> {
    Bytes(entry).small()
}

/// `place` gives the place of a number.
pub(super) fn location(
    entry: &[u8],
    place: impl FnOnce(u32) -> Result<Place, Malformed>,
) -> Result<Location, Malformed> {
    whole(entry, |bytes| {
        let place = place(bytes.small()?)?;
        let address = place.address.map_or_else(|| bytes.number(), Ok)?;
        let mut lines = Vec::with_capacity(place.functions.len());
        for function in place.functions {
            lines.push(Line { function, line: bytes.small()?, column: bytes.small()? });
        }
        Ok(Location { kind: place.kind, mapping: place.mapping, address, lines })
    })
}

pub(super) fn put_process(out: &mut Vec<u8>, process: &Process) {
    put(out, u64::from(process.pid));
    put(out, process.start_time_ns);
    put_all(out, &[process.comm.0, process.executable.0]);
    put(out, process.cgroup_id);
    put(out, u64::from(process.cgroup.0));
    put_option(out, process.identity.map(|identity| identity.0));
}

pub(super) fn process(entry: &[u8]) -> Result<Process, Malformed> {
    whole(entry, |bytes| {
        Ok(Process {
            pid: bytes.small()?,
            start_time_ns: bytes.number()?,
            comm: StringIndex(bytes.small()?),
            executable: StringIndex(bytes.small()?),
            cgroup_id: bytes.number()?,
            cgroup: StringIndex(bytes.small()?),
            identity: option(bytes)?.map(IdentityIndex),
        })
    })
}

pub(super) fn put_thread(out: &mut Vec<u8>, thread: Thread) {
    put_all(out, &[thread.process, thread.tid, thread.name]);
}

pub(super) fn thread(entry: &[u8]) -> Result<Thread, Malformed> {
    whole(entry, |bytes| Ok(Thread { process: bytes.small()?, tid: bytes.small()?, name: bytes.small()? }))
}

/// Texts of an identity that come before its labels.
const IDENTITY_TEXTS: usize = 12;

/// Those, and then each label's key and value: an identity's entry is the number of each among the owners' texts.
pub(super) fn identity_texts(identity: &Identity) -> impl Iterator<Item = &Arc<str>> {
    let texts: [&Arc<str>; IDENTITY_TEXTS] = [
        &identity.container_id,
        &identity.pod_uid,
        &identity.pod,
        &identity.namespace,
        &identity.container,
        &identity.image,
        &identity.node,
        &identity.workload_kind,
        &identity.workload,
        &identity.service,
        &identity.environment,
        &identity.version,
    ];
    texts.into_iter().chain(identity.labels.iter().flat_map(|(key, value)| [key, value]))
}

/// The numbers of an identity's texts, one after the other.
pub(super) fn identity_numbers(
    entry: &[u8],
    mut visit: impl FnMut(u32) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut bytes = Bytes(entry);
    let mut count = 0_usize;
    while bytes.end().is_err() {
        visit(bytes.small()?)?;
        count += 1;
    }
    match count.checked_sub(IDENTITY_TEXTS) {
        None => Err(Malformed("an identity without all its texts")),
        Some(labels) if labels % 2 == 1 => Err(Malformed("a label without a value")),
        Some(_) => Ok(()),
    }
}

/// The number of one of an identity's texts, by its place in the entry.
pub(super) fn identity_text(entry: &[u8], place: usize) -> Result<u32, Malformed> {
    let mut bytes = Bytes(entry);
    for _ in 0..place {
        bytes.small()?;
    }
    bytes.small()
}

/// Places of texts in an identity's entry, for those that are labels.
pub(super) mod identity_place {
    pub(crate) const POD: usize = 2;
    pub(crate) const NAMESPACE: usize = 3;
    pub(crate) const CONTAINER: usize = 4;
    pub(crate) const NODE: usize = 6;
    pub(crate) const WORKLOAD: usize = 8;
    pub(crate) const SERVICE: usize = 9;
}

/// `text` gives the text of a number.
pub(super) fn identity(
    entry: &[u8],
    mut text: impl FnMut(u32) -> Result<Arc<str>, Malformed>,
) -> Result<Identity, Malformed> {
    let mut bytes = Bytes(entry);
    let mut next = || -> Result<Option<Arc<str>>, Malformed> {
        if bytes.end().is_ok() { Ok(None) } else { Ok(Some(text(bytes.small()?)?)) }
    };
    let mut field = || next()?.ok_or(Malformed("an identity without all its texts"));
    let mut identity = Identity {
        container_id: field()?,
        pod_uid: field()?,
        pod: field()?,
        namespace: field()?,
        container: field()?,
        image: field()?,
        node: field()?,
        workload_kind: field()?,
        workload: field()?,
        service: field()?,
        environment: field()?,
        version: field()?,
        labels: Vec::new(),
    };
    while let Some(key) = next()? {
        let value = next()?.ok_or(Malformed("a label without a value"))?;
        identity.labels.push((key, value));
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_location_keeps_its_number() {
        for (number, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind_number(kind) as usize, number);
        }
    }

    #[test]
    fn a_location_is_its_place_and_what_it_adds() {
        let line = |function, line| Line { function: FunctionIndex(function), line, column: 3 };
        let cases = [(true, vec![line(4, 10), line(5, 300)]), (false, vec![line(4, 10)]), (false, vec![])];
        for (named, lines) in cases {
            let location = Location { kind: LocationKind::Go, mapping: Some(MappingIndex(0)), address: 1 << 40, lines };
            let of = Place::of(&location, named);
            let mut entry = Vec::new();
            put_place(&mut entry, &of);
            assert_eq!(place(&entry), Ok(of.clone()));
            assert_eq!(entry.len() > 6, !named, "an address takes six bytes");
            entry.clear();
            put_location(&mut entry, 7, &of, &location);
            assert_eq!(place_number(&entry), Ok(7));
            assert_eq!(super::location(&entry, |_| Ok(of.clone())), Ok(location.clone()));
            let shown = of.with_line(10);
            assert_eq!(shown.address, if named { 0 } else { 1 << 40 });
            assert_eq!(shown.lines.first().map(|line| line.line), location.lines.first().map(|_| 10));
            assert!(shown.lines.iter().skip(1).all(|line| (line.line, line.column) == (0, 0)));
        }
    }

    #[test]
    fn identities_come_back_and_their_places_are_right() {
        let names =
            ["id", "uid", "pod", "space", "box", "image", "node", "Job", "work", "service", "env", "v1", "k", "v"];
        let text = |number: u32| names.get(number as usize).copied().ok_or(Malformed("no text"));
        let entry: Vec<u8> = (0..names.len() as u8).collect();
        let read = identity(&entry, |number| Ok(text(number)?.into())).unwrap();
        assert_eq!((&*read.container_id, &*read.version, read.labels.len()), ("id", "v1", 1));
        assert!(identity_texts(&read).map(|text| &**text).eq(names));
        let mut again = Vec::new();
        let numbers = identity_numbers(&entry, |number| {
            again.push(number as u8);
            Ok(())
        });
        assert_eq!(numbers, Ok(()));
        assert_eq!(again, entry);
        use identity_place::{CONTAINER, NAMESPACE, NODE, POD, SERVICE, WORKLOAD};
        let places = [POD, NAMESPACE, CONTAINER, NODE, WORKLOAD, SERVICE];
        let found = places.map(|place| text(identity_text(&entry, place).unwrap()).unwrap());
        assert_eq!(found, ["pod", "space", "box", "node", "work", "service"]);
    }

    #[test]
    fn entries_that_end_early_or_late_are_refused() {
        assert!(mapping(&[1]).is_err());
        assert!(mapping(&[1, 2, 3]).is_err());
        assert!(place(&[99, 0, 0]).is_err());
        assert!(place(&[HAS_ADDRESS, 0]).is_err());
        let two = |_| Ok(place(&[0, 0, 1, 2]).unwrap());
        assert!(location(&[0, 5, 1, 1, 2, 2], two).is_ok());
        assert!(location(&[0, 5, 1, 1, 2], two).is_err());
        assert!(location(&[0, 5, 1, 1, 2, 2, 3], two).is_err());
        for (texts, good) in [(11, false), (12, true), (13, false), (14, true)] {
            let entry = vec![0; texts];
            assert_eq!(identity(&entry, |_| Ok("".into())).is_ok(), good, "{texts}");
            assert_eq!(identity_numbers(&entry, |_| Ok(())).is_ok(), good, "{texts}");
        }
    }
}
