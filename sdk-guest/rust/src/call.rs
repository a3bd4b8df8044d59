use crate::abi;
use crate::json::Json;
use std::fmt;

/// What functions answer.
pub type Result<T> = std::result::Result<T, Error>;

/// How a function failed. Every error of the standard library and of other crates becomes one by `?`; a job then tries again.
pub struct Error {
    message: String,
    permanent: bool,
    reason: String,
}

impl Error {
    /// An error that may go away: a job tries again.
    pub fn new(message: impl fmt::Display) -> Error {
        Error { message: message.to_string(), permanent: false, reason: String::new() }
    }

    /// An error that trying again cannot help: a job does not.
    pub fn permanent(message: impl fmt::Display) -> Error {
        Error { message: message.to_string(), permanent: true, reason: String::new() }
    }

    pub(crate) fn refused(reason: &str, message: impl fmt::Display) -> Error {
        Error { reason: reason.to_string(), ..Error::new(message) }
    }

    /// Why the host did not do what was asked of it: a stable word, such as "capability_denied"; empty for other errors.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Tells whether trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Error is no std::error::Error itself, which is what allows this.
impl<E: std::error::Error> From<E> for Error {
    fn from(err: E) -> Error {
        Error::new(err)
    }
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One call: what the host tells of it, its log and its output.
pub struct Call {
    pub(crate) function: &'static str,
    pub(crate) wrote: bool,
    context: Option<Json>,
}

impl Call {
    pub(crate) fn new(function: &'static str) -> Call {
        Call { function, wrote: false, context: None }
    }

    /// The name the function was called by.
    pub fn function(&self) -> &'static str {
        self.function
    }

    /// What the host tells, asked for once, and only in calls that want to know. A host that tells nothing leaves all empty.
    fn context(&mut self) -> &Json {
        self.context.get_or_insert_with(|| Json::parse(&abi::ask(1, &[]).0).unwrap_or(Json::Null))
    }

    fn text(&mut self, member: &str) -> &str {
        self.context().get(member).as_str().unwrap_or("")
    }

    fn number(&mut self, member: &str) -> i64 {
        self.context().get(member).as_i64().unwrap_or(0)
    }

    /// The service that was called.
    pub fn service(&mut self) -> &str {
        self.text("service")
    }

    /// The version of the service.
    pub fn version(&mut self) -> u64 {
        self.number("version") as u64
    }

    /// The id of the job this call belongs to; empty outside of jobs.
    pub fn job(&mut self) -> &str {
        self.text("job")
    }

    /// The job's stage.
    pub fn stage(&mut self) -> &str {
        self.text("stage")
    }

    /// The number of the task in its stage.
    pub fn task(&mut self) -> u32 {
        self.number("task") as u32
    }

    /// Counts up from 1 with every try of the task; 0 outside of jobs.
    pub fn attempt(&mut self) -> u32 {
        self.number("attempt") as u32
    }

    /// When the host will stop the call, in milliseconds since 1970.
    pub fn deadline_unix_ms(&mut self) -> i64 {
        self.number("deadline_unix_ms")
    }

    /// The call's W3C trace context. Pass it on as the header or field `traceparent` to what is called other than by the host; calls and
    /// HTTP requests made through the host carry it already.
    pub fn traceparent(&mut self) -> &str {
        self.text("traceparent")
    }

    /// A parameter of the job's stage.
    pub fn param(&mut self, name: &str) -> Option<&str> {
        self.context().get("params").get(name).as_str()
    }

    /// Logs one line.
    pub fn log(&mut self, level: Level, line: impl fmt::Display) {
        abi::log(level as i32, line.to_string().as_bytes());
    }

    /// Appends to the output, before what a call function answers. A reducer writes or emits, not both. Each write costs a
    /// call of the host: collect small ones.
    pub fn write(&mut self, b: impl AsRef<[u8]>) {
        self.wrote = true;
        abi::output_write(b.as_ref());
    }

    /// Checks that the function runs where it can: the input of another kind would be read as nonsense.
    pub(crate) fn wants(&mut self, input: &str) -> Result<()> {
        let got = self.text("input");
        if got.is_empty() || got == input {
            return Ok(());
        }
        let got = got.to_string();
        Err(Error::permanent(format_args!(
            "function {} reads {}, but was given {}: run it in a stage of a job that fits its kind",
            self.function, input, got
        )))
    }
}

/// What a call function may answer: bytes, text, JSON, or nothing.
pub trait Output {
    #[doc(hidden)]
    fn write_to(self, call: &mut Call);
}

impl Output for () {
    fn write_to(self, _: &mut Call) {}
}

impl Output for Vec<u8> {
    fn write_to(self, call: &mut Call) {
        call.write(self);
    }
}

impl Output for String {
    fn write_to(self, call: &mut Call) {
        call.write(self);
    }
}

impl Output for &str {
    fn write_to(self, call: &mut Call) {
        call.write(self);
    }
}

impl Output for Json {
    fn write_to(self, call: &mut Call) {
        call.write(self.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn knows_what_the_host_tells() {
        fn told(call: &mut Call, _: Vec<u8>) -> Result<String> {
            let (service, job, traceparent) = (call.service().to_string(), call.job().to_string(), call.traceparent().to_string());
            Ok([&service, &job, &traceparent, call.param("field").unwrap_or("none")].join("|"))
        }
        assert_eq!(testing::call(told, "").unwrap(), b"test|||none");
        testing::params(&[("field", "status")]);
        testing::traceparent("00-a-b-01");
        assert_eq!(testing::call(told, "").unwrap(), b"test||00-a-b-01|status");
    }
}
