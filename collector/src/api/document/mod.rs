//! What can be asked, as an OpenAPI document. It is made from the handlers, the types they answer with and the parameters
//! they take; and it is the rule as well: which role a path needs, which parameters it takes and what it costs is read
//! from it, so that nothing is served differently from what is described.

mod rules;

pub(super) use rules::{Rule, Rules};

use super::rates::Cost;
use super::{Api, Problem};
use crate::access::Role;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, Header, HeaderBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, PathItem, Paths,
    Ref, RefOr, Response, ResponseBuilder, SecurityRequirement, schema::ObjectBuilder, schema::Type,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

const ROLE: &str = "x-role";
const COST: &str = "x-limited-as";
const OF_PEOPLE: &str = "x-of-people";
const PROBLEM: &str = "application/problem+json";

const ABOUT: &str = "What a collector knows of a water network: newest values, history, gaps, anomalies, forecasts, jobs.

**Who asks.** People log in (`POST /api/v1/login`) and are known by a cookie; programs show a token that \
`collector token make` gives: `Authorization: Bearer wtc_…`. A *viewer* looks, an *operator* also enters and decides, an \
*admin* may do everything. While nobody has been made, everyone on the collector's machine may do everything.

**Times** are RFC 3339 in UTC. As a parameter a day like `2026-03-01` (its first moment in UTC), `now` and `now-6h` are \
possible as well; a `+` in an address is written `%2B`.

**Lists** have at most `limit` items. `next` is what to give as `offset` for those after them, `null` at the end; of lists \
that have the newest first new items don't shift it.

**Errors** are problem details (RFC 9457): `type` is a name that stays, `detail` says what is wrong and what would be \
right, `parameter` which parameter is at fault, or puts it right. An answer that something is missing from says so in `degraded`.

**Again and again.** JSON has an `ETag`: with it in `If-None-Match` the answer is 304 while nothing has changed. \
429 and 503 say in `Retry-After` how many seconds to wait.";

/// This description
///
/// As an OpenAPI document; `/api/docs` shows it to people.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "Operations",
    responses((status = 200, body = Object, description = "The document.")))]
pub(super) async fn document(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api.document)
}

/// Without the paths.
pub(super) fn head() -> OpenApi {
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("Of `collector token make`.")).build();
    let cookie = ApiKeyValue::with_description("session", "Of a login. Over TLS it is called `__Host-session`.");
    let mut components = Components::new();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    for (status, name, what) in COMMON {
        components.responses.insert((*name).into(), RefOr::T(problem(status, what)));
    }
    let same = ResponseBuilder::new().description(SAME).header("ETag", etag());
    components.responses.insert("Same".into(), RefOr::T(same.build()));
    let tag = |(name, what): (&str, &str)| TagBuilder::new().name(name).description(Some(what)).build();
    let license = License::new(env!("CARGO_PKG_LICENSE"));
    let info = InfoBuilder::new()
        .title("Collector")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license));
    OpenApiBuilder::new().info(info).components(Some(components)).tags(Some(TAGS.map(tag))).build()
}

const TAGS: [(&str, &str); 5] = [
    ("Readings", "What was measured: newest values and history, and which series there are."),
    ("Analytics", "What is expected, what is out of the ordinary, and how good the data is."),
    ("Entry", "What people bring, take out and correct."),
    ("Operations", "How the collector and its gateways are."),
    ("Access", "Who is there."),
];

/// Answers that many paths have in common: status, name, when.
const COMMON: &[(&str, &str, &str)] = &[
    ("400", "Wrong", "A parameter or what was sent is wrong."),
    ("401", "Unknown", "Nobody is logged in, and no token is shown that is known."),
    ("403", "Forbidden", "It needs another role, or a page of another site asks for a change."),
    ("404", "NotFound", "It isn't there."),
    ("408", "SlowBody", "What was announced was not sent in time."),
    ("409", "Conflict", "It can't be done as things are."),
    ("413", "TooLarge", "What was sent is too large."),
    ("415", "Packed", "What was sent is packed, and not with gzip."),
    ("421", "Misdirected", "On loopback only this machine's names and addresses are answered."),
    ("422", "TooMuch", "The query asks for more than it may have."),
    ("426", "Upgrade", "WebSocket is spoken here."),
    ("429", "TooOften", "It is asked too often."),
    ("500", "Broken", "A tier holds what it should never hold."),
    ("503", "Away", "A tier is away, or too much is under way."),
    ("504", "TooSlow", "It took too long."),
];

/// What is said to those who have it already.
const SAME: &str = "It is what `If-None-Match` says is known: nothing has changed.";

fn etag() -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().description(Some("What this answer is known by.")).schema(Some(text)).build()
}

/// Whether `tagged` looks after its answer.
fn is_tagged(method: &Method, operation: &Operation) -> bool {
    let ok = operation.responses.responses.get("200");
    *method == Method::GET && matches!(ok, Some(RefOr::T(ok)) if ok.content.contains_key("application/json"))
}

fn problem(status: &str, what: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let response = ResponseBuilder::new().description(what).content(PROBLEM, content);
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).build();
    let wait =
        HeaderBuilder::new().description(Some("Seconds to wait before it is asked again.")).schema(Some(seconds));
    match status {
        "429" | "503" => response.header("Retry-After", wait.build()).build(),
        _ => response.build(),
    }
}

/// Answers of [`COMMON`] that not every path has.
macro_rules! answers {
    ($($name:ident = $status:literal),+) => {$(
        #[doc = concat!("What is said with status ", $status, ".")]
        pub(super) struct $name;
        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([($status.into(), Ref::from_response_name(stringify!($name)).into())])
            }
        }
    )+};
}
answers!(NotFound = "404", Conflict = "409", Unknown = "401", TooOften = "429", Upgrade = "426", TooMuch = "422");

fn add(operation: &mut Operation, status: &str) {
    let Some((_, name, _)) = COMMON.iter().find(|(of, ..)| *of == status) else { return };
    // What a handler says itself goes before.
    operation.responses.responses.entry(status.into()).or_insert_with(|| Ref::from_response_name(*name).into());
}

fn note(operation: &mut Operation, name: &str, value: Value) {
    let new = ExtensionsBuilder::new().add(name, value).build();
    match &mut operation.extensions {
        Some(extensions) => extensions.merge(new),
        none => *none = Some(new),
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [(Method::GET, &mut item.get), (Method::POST, &mut item.post), (Method::DELETE, &mut item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn each(paths: &mut Paths, mut what: impl FnMut(&Method, &str, &mut Operation)) {
    for (path, item) in &mut paths.paths {
        operations(item).for_each(|(method, operation)| what(&method, path, operation));
    }
}

/// Says of all these that they need at least a role, or that nobody has to say who it is.
pub(super) fn needing(role: Option<Role>, mut router: OpenApiRouter<Api>) -> OpenApiRouter<Api> {
    let paths = &mut router.get_openapi_mut().paths;
    each(paths, |method, _, operation| {
        let with_body = operation.request_body.is_some();
        for status in ["400", "421", "500", "503", "504"]
            .into_iter()
            .chain(["408", "413", "415"].into_iter().filter(|_| with_body))
        {
            add(operation, status);
        }
        if *method != Method::GET || role.is_some() {
            add(operation, "403");
        }
        if is_tagged(method, operation) {
            operation.responses.responses.insert("304".into(), Ref::from_response_name("Same").into());
        }
        let Some(role) = role else {
            operation.security = Some(vec![SecurityRequirement::default()]);
            return;
        };
        add(operation, "401");
        note(operation, ROLE, json!(role));
        operation.security =
            Some(["session", "token"].map(|scheme| SecurityRequirement::new(scheme, [role.as_str()])).into());
    });
    router
}

/// Says of all these that they are for people who have logged in, whatever the role: no token opens them.
pub(super) fn for_people(router: OpenApiRouter<Api>) -> OpenApiRouter<Api> {
    let mut router = needing(Some(Role::Viewer), router);
    each(&mut router.get_openapi_mut().paths, |_, _, operation| {
        note(operation, OF_PEOPLE, json!(true));
        operation.security = Some(vec![SecurityRequirement::new("session", [Role::Viewer.as_str()])]);
    });
    router
}

/// Says of a route that it can't be asked as often as one likes.
pub(super) fn costly(cost: Cost, (schemas, mut paths, routes): UtoipaMethodRouter<Api>) -> UtoipaMethodRouter<Api> {
    each(&mut paths, |_, _, operation| {
        note(operation, COST, json!(cost));
        add(operation, "429");
    });
    (schemas, paths, routes)
}
