//! Runs functions in plain tests, without WebAssembly: input goes in, output or records come out, log lines go to stderr.
//!
//! It does not bound time or memory.
//!
//! ```
//! # use wattle::{Call, Result};
//! fn shout(_: &mut Call, text: String) -> Result<String> {
//!     Ok(text.to_uppercase())
//! }
//! assert_eq!(wattle::testing::call(shout, "hello").unwrap(), b"HELLO");
//! ```

use crate::emit::{put_counted, put_length};
use crate::register::{run, Function};
use crate::{Call, Emit, FromInput, Groups, Json, Output, Parts, Result};
use std::cell::RefCell;

/// What came of a function that failed: its message, and whether trying again cannot help.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub permanent: bool,
}

/// What a function asks of the host. A head is the JSON that docs/abi.md of Wattle has for the request, body what follows it.
pub enum Ask<'a> {
    Config(&'a str),
    Http { head: Json, body: &'a [u8] },
    Call { head: Json, body: &'a [u8] },
    /// Everything else, by its number.
    Other(i32, &'a [u8]),
}

/// Why a request is refused.
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

type Grants = Box<dyn Fn(Ask) -> std::result::Result<Vec<u8>, Refusal>>;

/// Key and value.
pub type Record = (String, String);

/// What lasts from run to run.
#[derive(Default)]
struct Setup {
    params: Vec<(String, String)>,
    traceparent: String,
    secrets: Option<Vec<(String, String)>>,
    cache: Option<Vec<(String, u64, Vec<u8>)>>,
}

#[derive(Default)]
struct Host {
    setup: Setup,
    input: Vec<u8>,
    stream: bool,
    kind: &'static str,
    output: Vec<u8>,
    error: Vec<u8>,
    batches: Vec<u8>,
}

thread_local! {
    // Tests run side by side, each on a thread of its own.
    static HOST: RefCell<Host> = RefCell::new(Host::default());
    static GRANTS: RefCell<Option<Grants>> = RefCell::new(None);
}

/// Answers what functions on this thread ask of the host; without it all is denied. An answer to [`Ask::Http`] is made by [`headed`].
pub fn grant(f: impl Fn(Ask) -> std::result::Result<Vec<u8>, Refusal> + 'static) {
    GRANTS.with(|g| *g.borrow_mut() = Some(Box::new(f)));
}

/// Gives functions on this thread secrets, each a name and a value.
pub fn grant_secrets(all: &[(&str, &str)]) {
    HOST.with(|h| h.borrow_mut().setup.secrets = Some(owned(all)));
}

/// Gives functions on this thread a cache, which is empty. Entries do not end by themselves.
pub fn grant_cache() {
    HOST.with(|h| h.borrow_mut().setup.cache = Some(Vec::new()));
}

/// Writes JSON and what follows it.
pub fn headed(head: &Json, body: &[u8]) -> Vec<u8> {
    let mut b = Vec::new();
    put_counted(&mut b, head.to_string().as_bytes());
    b.extend_from_slice(body);
    b
}

/// Sets the parameters that functions see on this thread.
pub fn params(all: &[(&str, &str)]) {
    HOST.with(|h| h.borrow_mut().setup.params = owned(all));
}

/// Sets the trace context that functions see on this thread.
pub fn traceparent(text: &str) {
    HOST.with(|h| h.borrow_mut().setup.traceparent = text.to_string());
}

fn owned(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// Runs a function from input to output.
pub fn call<I: FromInput, O: Output>(f: impl FnOnce(&mut Call, I) -> Result<O>, input: impl AsRef<[u8]>) -> std::result::Result<Vec<u8>, Failure> {
    with("bytes", input.as_ref().to_vec(), |call| Function::call(f, call)).map(|h| h.output)
}

/// Runs a mapper on parts, each a text of a file of its own.
pub fn map(f: impl FnOnce(&mut Call, &mut Parts, &mut Emit) -> Result<()>, parts: &[&str]) -> std::result::Result<Vec<Record>, Failure> {
    let mut input = Vec::new();
    for text in parts {
        put_counted(&mut input, b"test.txt");
        input.extend([0, 0]);
        put_counted(&mut input, text.as_bytes());
    }
    with("split", input, |call| Function::map(f, call)).map(|h| records(&h.batches))
}

/// Runs a reducer or combiner on records, grouped and sorted as a job would do it, and answers what it emitted.
pub fn reduce<K: AsRef<str>, V: AsRef<str>>(
    f: impl FnOnce(&mut Call, &mut Groups, &mut Emit) -> Result<()>,
    records: &[(K, V)],
) -> std::result::Result<Vec<Record>, Failure> {
    reduce_to_both(f, records).map(|(records, _)| records)
}

/// Runs a reducer on records and answers the bytes it wrote.
pub fn reduce_to_bytes<K: AsRef<str>, V: AsRef<str>>(
    f: impl FnOnce(&mut Call, &mut Groups, &mut Emit) -> Result<()>,
    records: &[(K, V)],
) -> std::result::Result<Vec<u8>, Failure> {
    reduce_to_both(f, records).map(|(_, bytes)| bytes)
}

fn reduce_to_both<K: AsRef<str>, V: AsRef<str>>(
    f: impl FnOnce(&mut Call, &mut Groups, &mut Emit) -> Result<()>,
    pairs: &[(K, V)],
) -> std::result::Result<(Vec<Record>, Vec<u8>), Failure> {
    let mut sorted: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect();
    sorted.sort_by_key(|&(k, _)| k); // stable: values keep their order
    let mut input = Vec::new();
    for (i, (key, value)) in sorted.iter().enumerate() {
        if i == 0 || sorted[i - 1].0 != *key {
            put_counted(&mut input, key.as_bytes());
        }
        put_length(&mut input, value.len() + 1);
        input.extend_from_slice(value.as_bytes());
        if i + 1 == sorted.len() || sorted[i + 1].0 != *key {
            input.push(0);
        }
    }
    with("groups", input, |call| Function::reduce(f, call)).map(|h| (records(&h.batches), h.output))
}

fn with(kind: &'static str, input: Vec<u8>, f: impl FnOnce(&mut Call) -> Result<()>) -> std::result::Result<Host, Failure> {
    HOST.with(|h| {
        let mut h = h.borrow_mut();
        let setup = std::mem::take(&mut h.setup);
        *h = Host { setup, kind, input, stream: kind == "groups", ..Host::default() };
    });
    let status = run("test", f);
    let host = HOST.with(|h| {
        let mut h = h.borrow_mut();
        let setup = std::mem::take(&mut h.setup);
        std::mem::replace(&mut *h, Host { setup, ..Host::default() })
    });
    match status {
        0 => Ok(host),
        _ => Err(Failure { message: String::from_utf8_lossy(&host.error).into_owned(), permanent: status == 2 }),
    }
}

fn records(batches: &[u8]) -> Vec<Record> {
    let mut texts = Vec::new();
    let mut rest = batches;
    while !rest.is_empty() {
        let mut n = 0;
        let mut shift = 0;
        loop {
            n |= usize::from(rest[0] & 0x7f) << shift;
            shift += 7;
            let last = rest[0] < 0x80;
            rest = &rest[1..];
            if last {
                break;
            }
        }
        texts.push(String::from_utf8_lossy(&rest[..n]).into_owned());
        rest = &rest[n..];
    }
    let mut texts = texts.into_iter();
    std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect()
}

/// The host's functions, as the rest of the crate sees them in tests.
pub(crate) mod host {
    use super::*;
    use crate::capabilities::behead;
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};
    use std::time::{SystemTime, UNIX_EPOCH};

    pub fn input_len() -> i64 {
        HOST.with(|h| if h.borrow().stream { -1 } else { h.borrow().input.len() as i64 })
    }

    pub fn input_read(to: &mut [u8], off: u64) -> usize {
        HOST.with(|h| {
            let h = h.borrow();
            let rest = h.input.get(off as usize..).unwrap_or(&[]);
            let n = rest.len().min(to.len());
            to[..n].copy_from_slice(&rest[..n]);
            n
        })
    }

    pub fn output_write(b: &[u8]) {
        HOST.with(|h| h.borrow_mut().output.extend_from_slice(b));
    }

    pub fn error_write(b: &[u8]) {
        HOST.with(|h| h.borrow_mut().error.extend_from_slice(b));
    }

    pub fn log(level: i32, line: &[u8]) {
        eprintln!("{}: {}", ["debug", "info", "warn", "error"][level as usize], String::from_utf8_lossy(line));
    }

    pub fn emit(batch: &[u8]) {
        HOST.with(|h| h.borrow_mut().batches.extend_from_slice(batch));
    }

    pub fn ask(op: i32, request: &[u8]) -> (Vec<u8>, i64) {
        let answer = match op {
            1 => Ok(context()),
            3 => Ok(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64).to_le_bytes().to_vec()),
            4 => Ok(random(request)),
            6 => secret(request),
            9 | 10 => cache(op, request),
            _ => granted(op, request),
        };
        match answer {
            Ok(reply) => {
                let code = reply.len() as i64;
                (reply, code)
            }
            Err(r) => {
                let reply = Json::object([("reason", r.reason), ("message", r.message)]).to_string().into_bytes();
                let code = -2 - reply.len() as i64;
                (reply, code)
            }
        }
    }

    /// As many random bytes as the 4 bytes of the request say. Each state of the standard library's hash maps is random.
    fn random(request: &[u8]) -> Vec<u8> {
        let n = request.try_into().map_or(0, u32::from_le_bytes) as usize;
        let mut b: Vec<u8> = (0..n).step_by(8).flat_map(|_| RandomState::new().build_hasher().finish().to_le_bytes()).collect();
        b.truncate(n);
        b
    }

    fn denied() -> Refusal {
        Refusal { reason: "capability_denied".into(), message: "the test does not grant it".into() }
    }

    fn granted(op: i32, request: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
        let split = || behead(request).expect("the SDK writes requests that can be read");
        GRANTS.with(|g| {
            let g = g.borrow();
            let f = g.as_ref().ok_or_else(denied)?;
            match op {
                5 => f(Ask::Config(&String::from_utf8_lossy(request))),
                7 | 8 => {
                    let (head, body) = split();
                    f(if op == 7 { Ask::Http { head, body: &body } } else { Ask::Call { head, body: &body } })
                }
                _ => f(Ask::Other(op, request)),
            }
        })
    }

    fn secret(name: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
        HOST.with(|h| {
            let h = h.borrow();
            let secrets = h.setup.secrets.as_ref().ok_or_else(denied)?;
            match secrets.iter().find(|s| s.0.as_bytes() == name) {
                Some(s) => Ok(s.1.clone().into_bytes()),
                None => Err(Refusal { reason: "unknown_secret".into(), message: format!("there is no secret {}", String::from_utf8_lossy(name)) }),
            }
        })
    }

    fn cache(op: i32, request: &[u8]) -> std::result::Result<Vec<u8>, Refusal> {
        HOST.with(|h| {
            let mut h = h.borrow_mut();
            let entries = h.setup.cache.as_mut().ok_or_else(denied)?;
            if op == 9 {
                let found = entries.iter().find(|e| e.0.as_bytes() == request);
                return Ok(found.map_or_else(|| vec![0; 8], |e| [&e.1.to_le_bytes()[..], &e.2].concat()));
            }
            let (head, value) = behead(request).expect("the SDK writes requests that can be read");
            let key = head.get("key").as_str().unwrap_or("");
            let before = entries.iter().find(|e| e.0 == key).map_or(0, |e| e.1);
            if head.get("expect").as_i64().map_or(false, |v| v as u64 != before) {
                return Ok([&before.to_le_bytes()[..], &[0]].concat());
            }
            let version = 1 + entries.iter().map(|e| e.1).max().unwrap_or(0);
            entries.retain(|e| e.0 != key);
            if head.get("ttl_ms").as_i64() < Some(0) {
                return Ok(vec![0, 0, 0, 0, 0, 0, 0, 0, 1]);
            }
            entries.push((key.to_string(), version, value));
            Ok([&version.to_le_bytes()[..], &[1]].concat())
        })
    }

    fn context() -> Vec<u8> {
        HOST.with(|h| {
            let h = h.borrow();
            let params = Json::Object(h.setup.params.iter().map(|(k, v)| (k.clone(), Json::from(v.as_str()))).collect());
            Json::object([
                ("service", Json::from("test")),
                ("function", "test".into()),
                ("input", h.kind.into()),
                ("traceparent", h.setup.traceparent.as_str().into()),
                ("params", params),
            ])
            .to_string()
            .into_bytes()
        })
    }
}
