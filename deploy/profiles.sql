-- DuckDB: what deploy/collector.yaml wrote (OTLP profiles as JSON lines) as a table with a row for each sample: when, whose, which
-- stack (outermost function first) and how much CPU time it stands for. `profiles/` may be an object store: s3://bucket/profiles/.
CREATE OR REPLACE TABLE samples AS
WITH requests AS (
    SELECT *
    FROM read_json('profiles/*.json', format = 'newline_delimited', maximum_object_size = 67108864, columns = {
        dictionary: 'STRUCT(
            stringTable VARCHAR[],
            functionTable STRUCT(nameStrindex BIGINT)[],
            locationTable STRUCT(lines STRUCT(functionIndex BIGINT)[])[],
            stackTable STRUCT(locationIndices BIGINT[])[])',
        resourceProfiles: 'STRUCT(
            resource STRUCT(attributes STRUCT(keyStrindex BIGINT, value STRUCT(stringValue VARCHAR, stringValueStrindex BIGINT))[]),
            scopeProfiles STRUCT(profiles STRUCT(
                period UBIGINT,
                samples STRUCT(stackIndex BIGINT, timestampsUnixNano UBIGINT[])[])[])[])[]'
    })
),
-- JSON leaves out what is zero, and tables begin with an empty entry, so that 0 is "none".
functions AS (
    SELECT resourceProfiles, dictionary,
        list_transform(dictionary.functionTable, lambda f: dictionary.stringTable[coalesce(f.nameStrindex, 0) + 1]) AS names
    FROM requests
),
locations AS (
    SELECT resourceProfiles, dictionary,
        list_transform(dictionary.locationTable, lambda l: CASE
            WHEN l.lines IS NULL THEN ['[unknown]']
            ELSE list_transform(l.lines, lambda line: names[coalesce(line.functionIndex, 0) + 1])
        END) AS inlined
    FROM functions
),
stacks AS (
    SELECT resourceProfiles, dictionary.stringTable AS strings,
        list_transform(dictionary.stackTable, lambda s: list_reverse(flatten(
            list_transform(coalesce(s.locationIndices, []), lambda i: inlined[i + 1])))) AS stacks
    FROM locations
),
resources AS (
    SELECT strings, stacks, unnest(resourceProfiles) AS profiles FROM stacks
),
owners AS (
    SELECT stacks, profiles,
        map_from_entries(list_transform(coalesce(profiles.resource.attributes, []), lambda a: {
            'k': strings[coalesce(a.keyStrindex, 0) + 1],
            'v': coalesce(a.value.stringValue, strings[coalesce(a.value.stringValueStrindex, 0) + 1])
        })) AS attributes
    FROM resources
),
profiles AS (
    SELECT stacks, attributes,
        unnest(flatten(list_transform(profiles.scopeProfiles, lambda scope: scope.profiles))) AS profile
    FROM owners
),
samples AS (
    SELECT stacks, attributes, profile.period AS period, unnest(profile.samples) AS sample FROM profiles
)
SELECT
    make_timestamp_ns(unnest(sample.timestampsUnixNano)::BIGINT) AS time,
    attributes['service.name'] AS service,
    attributes['k8s.namespace.name'] AS namespace,
    attributes['k8s.pod.name'] AS pod,
    attributes['host.name'] AS node,
    stacks[coalesce(sample.stackIndex, 0) + 1] AS stack,
    period AS nanoseconds
FROM samples;
