//! The API's description in `OpenAPI` 3.1, made from the table of routes and the types on the wire.
//!
//! [`ROUTES`] says what there is and what each route needs, `operations` what it is for, and the types' own schemas
//! (JSON Schema 2020-12, which 3.1 takes as it is) what travels. Nothing is written twice, so that it cannot differ.

mod operation;
mod operations;

use std::collections::BTreeMap;

use chassis_core::Need;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use self::operation::{Answer, Content, Operation, schema_of};
use crate::query::Page;
use crate::route::{Dialect, Keyed, ROUTES, Route};
use crate::{PROBLEM_JSON, Problem};

const DESCRIPTION: &str = "\
Fleets of long-running agents, each in its own sandbox. Lists come in parts: `limit`, and the `Link` header leads to the \
next part. Errors are RFC 9457 problems with a stable `code`. Every answer has an `X-Request-Id`. A request that makes or \
changes something takes an `Idempotency-Key`: repeated with the same key and body within 24 hours it is answered with the \
first one's answer, and nothing is done twice.";

/// Refusals that any route may answer with, and the rest, in words.
const PROBLEMS: &[(u16, &str)] = &[
    (400, "The request is malformed: its path, query, headers or body"),
    (401, "Nobody is known to ask: the token or key is missing, wrong, expired or revoked"),
    (403, "Whoever asks may not do this, or the server's policy does not allow it"),
    (404, "There is no such thing, or none that whoever asks can see"),
    (408, "The request did not come in time"),
    (409, "It does not fit what there is now"),
    (410, "What was asked for is no longer kept"),
    (412, "The object is not at the version in `If-Match`"),
    (413, "The body is too large"),
    (415, "The body is not of the content type that this route takes"),
    (422, "The body can be read, but cannot be what is wanted"),
    (426, "This route speaks WebSocket"),
    (429, "Too many requests; `Retry-After` says when to ask again"),
    (431, "The headers and the address are larger than 32 KiB together"),
    (500, "The server failed at it; its log has the request id"),
    (501, "The runtime cannot do this"),
    (502, "The runtime failed at it"),
    (503, "Not just now; `Retry-After` says when to ask again"),
    (504, "There is no answer in time; a change that was asked for goes on"),
];

/// The whole document.
pub fn openapi() -> Value {
    let mut generator = generator();
    let mut paths = Map::new();
    for route in ROUTES.iter().filter(|route| route.dialect() == Dialect::Native) {
        let Some(described) = operations::describe(route.operation) else { continue };
        let operation = operation_json(&mut generator, route, described);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method.to_lowercase()] = operation;
    }
    let problem = generator.subschema_for::<Problem>();
    let responses: Map<String, Value> = PROBLEMS
        .iter()
        .map(|(status, words)| (problem_name(*status), problem_json(*status, words, &problem)))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chassis",
            "version": "1",
            "summary": "Runs fleets of agents",
            "description": DESCRIPTION,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key or the server's token. On the unix socket the user's id is enough.",
                },
            },
            "headers": headers(),
            "responses": responses,
            "schemas": generator.take_definitions(true),
        },
    })
}

/// What each operation takes after the question mark.
pub fn query_names() -> BTreeMap<&'static str, Vec<String>> {
    let mut generator = generator();
    let described =
        ROUTES.iter().filter_map(|route| Some((route.operation, operations::describe(route.operation)?)));
    described
        .map(|(name, operation)| {
            let parameters = queries(&mut generator, &operation);
            let names = parameters.iter().filter_map(|parameter| parameter["name"].as_str());
            (name, names.map(str::to_owned).collect())
        })
        .collect()
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    settings.into_generator()
}

fn headers() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "X-Request-Id": {
            "description": "The request's name in the server's log and audit.", "schema": text, "required": true,
        },
        "ETag": { "description": "For `If-None-Match`, and for `If-Match` of a change.", "schema": text },
        "Link": { "description": "`<…>; rel=\"next\"`: the next part, if there is more.", "schema": text },
        "Location": { "description": "Where to ask how far it is.", "schema": text },
        "Idempotency-Replayed": {
            "description": "`true` if this is the answer of an earlier request with the same key.", "schema": text,
        },
        "Retry-After": { "description": "Seconds.", "schema": { "type": "string", "pattern": "^[0-9]+$" } },
        "Chassis-Stale": {
            "description": "The database does not answer: this may have been out of date for so many seconds.",
            "schema": { "type": "string", "pattern": "^[0-9]+$" },
        },
    })
}

fn operation_json(generator: &mut SchemaGenerator, route: &Route, described: Operation) -> Value {
    let mut operation = json!({
        "operationId": route.operation,
        "summary": described.summary,
        "tags": [tag(route)],
        "parameters": parameters(generator, route, &described),
        "responses": responses(generator, route, &described),
    });
    match route.need {
        Need::Nothing => operation["security"] = json!([]),
        Need::Role(role, _) => operation["x-role"] = json!(role.word()),
    }
    if let Some(mut content) = content_json(generator, &described.body) {
        if let (Some(example), Some(json)) = (described.example, content.get_mut("application/json")) {
            json["example"] = example;
        }
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// The first word of the operation: what it is about.
fn tag(route: &Route) -> &'static str {
    route.operation.split('_').next().unwrap_or(route.operation)
}

fn parameters(generator: &mut SchemaGenerator, route: &Route, described: &Operation) -> Vec<Value> {
    let mut parameters: Vec<Value> =
        path_parameters(route.path).map(|name| path_parameter(generator, route, name)).collect();
    parameters.extend(queries(generator, described));
    let mut header = |is_there: bool, name: &str, schema: Value, description: &str| {
        if is_there {
            let header =
                json!({ "name": name, "in": "header", "description": description, "schema": schema });
            parameters.push(header);
        }
    };
    let key = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" });
    header(is_keyed(route), "Idempotency-Key", key, "Makes a repetition harmless for 24 hours.");
    let tag = json!({ "type": "string" });
    header(described.tagged, "If-None-Match", tag.clone(), "Answer 304 if it is still this `ETag`.");
    header(described.guarded, "If-Match", tag, "Refuse with 412 unless it is still this `ETag`.");
    if let Some((schema, description)) = &described.resumable {
        header(true, "Last-Event-ID", schema.clone(), description);
    }
    parameters
}

/// The names in the braces of a path.
fn path_parameters(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn path_parameter(generator: &mut SchemaGenerator, route: &Route, name: &str) -> Value {
    use chassis_spec::{AgentName, ApiKeyName, FleetName, SecretName};
    let schema = match name {
        "fleet" => schema_of::<FleetName>(generator).to_value(),
        "node" => schema_of::<chassis_core::NodeName>(generator).to_value(),
        "agent" | "profile" => schema_of::<AgentName>(generator).to_value(),
        "name" if tag(route) == "api" => schema_of::<ApiKeyName>(generator).to_value(),
        "name" => schema_of::<SecretName>(generator).to_value(),
        "number" => json!({ "type": "integer", "format": "uint32", "minimum": 1, "maximum": u32::MAX }),
        "port" => json!({ "type": "integer", "format": "uint16", "minimum": 1, "maximum": u16::MAX }),
        _ => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "name": name, "in": "path", "required": true, "schema": schema })
}

fn queries(generator: &mut SchemaGenerator, described: &Operation) -> Vec<Value> {
    let page = <Page as schemars::JsonSchema>::json_schema as fn(&mut SchemaGenerator) -> Schema;
    let types = described.queries.iter().copied().chain(described.paged.then_some(page));
    types.flat_map(|query| query_parameters(query(generator))).collect()
}

/// The fields of a query's type, each a parameter.
fn query_parameters(schema: Schema) -> Vec<Value> {
    let mut schema = schema.to_value();
    let required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    let Value::Object(properties) = schema["properties"].take() else { return Vec::new() };
    let parameter = |(name, mut schema): (String, Value)| {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        without_null(&mut schema);
        let mut parameter = json!({
            "name": name, "in": "query", "required": required.contains(&json!(name)), "schema": schema,
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.into_iter().map(parameter).collect()
}

/// A parameter that is not given is left out: there is no null in an address.
fn without_null(schema: &mut Value) {
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({ "type": "null" }));
        if let [only] = choices.as_slice() {
            *schema = only.clone();
        }
    }
    if let Some(schema) = schema.as_object_mut()
        && schema.get("default") == Some(&Value::Null)
    {
        schema.remove("default");
    }
}

fn responses(generator: &mut SchemaGenerator, route: &Route, described: &Operation) -> Value {
    let mut responses = Map::new();
    for answer in &described.answers {
        responses.insert(answer.status.to_string(), answer_json(generator, route, described, answer));
    }
    if described.tagged {
        let same = json!({
            "description": "It is still what `If-None-Match` names",
            "headers": { "X-Request-Id": header_ref("X-Request-Id"), "ETag": header_ref("ETag") },
        });
        responses.insert("304".to_owned(), same);
    }
    let mut problems = vec![400, 431, 500, 503, 504];
    if route.need != Need::Nothing {
        problems.extend([401, 403, 429]);
    }
    if route.path.contains('{') {
        problems.push(404);
    }
    if !matches!(described.body, Content::Nothing) {
        problems.extend([408, 413, 415, 422]);
    }
    if is_keyed(route) {
        problems.extend([409, 422]);
    }
    if described.guarded {
        problems.push(412);
    }
    problems.extend(described.problems);
    for status in problems {
        let problem = json!({ "$ref": format!("#/components/responses/{}", problem_name(status)) });
        responses.entry(status.to_string()).or_insert(problem);
    }
    responses.into()
}

fn is_keyed(route: &Route) -> bool {
    Keyed::of(route.operation) != Keyed::No
}

fn answer_json(
    generator: &mut SchemaGenerator,
    route: &Route,
    described: &Operation,
    answer: &Answer,
) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-Id".to_owned(), header_ref("X-Request-Id"));
    for (is_there, name) in [
        (described.tagged || described.versioned, "ETag"),
        (described.paged || described.linked, "Link"),
        (described.slow, "Location"),
        (is_keyed(route), "Idempotency-Replayed"),
        (route.method == "GET", "Chassis-Stale"),
    ] {
        if is_there {
            headers.insert(name.to_owned(), header_ref(name));
        }
    }
    let mut response = json!({ "description": answer.description, "headers": headers });
    let contents = answer.content.iter().filter_map(|content| content_json(generator, content));
    let content: Map<String, Value> = contents.flatten().collect();
    if !content.is_empty() {
        response["content"] = content.into();
    }
    for (operation, parameters) in &answer.links {
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, place)| ((*name).to_owned(), json!(place))).collect();
        response["links"][*operation] = json!({ "operationId": operation, "parameters": parameters });
    }
    response
}

fn content_json(generator: &mut SchemaGenerator, content: &Content) -> Option<Map<String, Value>> {
    let (media, media_type) = match content {
        Content::Nothing => return None,
        Content::Json(schema) => ("application/json", json!({ "schema": schema(generator).to_value() })),
        // Each event, as it is parsed.
        Content::Other("text/event-stream") => {
            let data = json!({ "type": "string", "contentMediaType": "application/json" });
            let event = json!({ "type": "object", "properties": { "data": data }, "required": ["data"] });
            ("text/event-stream", json!({ "schema": event }))
        }
        Content::Other("application/octet-stream") => ("application/octet-stream", json!({})),
        Content::Other(media) => (*media, json!({ "schema": { "type": "string" } })),
    };
    Some(Map::from_iter([(media.to_owned(), media_type)]))
}

fn header_ref(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

fn problem_json(status: u16, words: &str, schema: &Schema) -> Value {
    let mut headers = Map::from_iter([("X-Request-Id".to_owned(), header_ref("X-Request-Id"))]);
    if matches!(status, 429 | 503) {
        headers.insert("Retry-After".to_owned(), header_ref("Retry-After"));
    }
    json!({
        "description": words,
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": schema.as_value() } },
    })
}

#[cfg(test)]
mod tests {
    use super::operations;
    use crate::route::{Dialect, ROUTES};

    #[test]
    fn every_route_is_described() {
        let native = ROUTES.iter().filter(|route| route.dialect() == Dialect::Native);
        let missing = native.filter(|route| operations::describe(route.operation).is_none());
        let missing: Vec<&str> = missing.map(|route| route.operation).collect();
        assert!(missing.is_empty(), "say in openapi/operations.rs what these are for: {missing:?}");
    }
}
