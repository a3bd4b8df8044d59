use crate::abi;
use crate::call::{Call, Error, Output, Result};
use crate::emit::Emit;
use crate::groups::Groups;
use crate::input::FromInput;
use crate::json::Json;
use crate::parts::Parts;

/// Makes functions callable. Name it once in a crate, with a line for each function: its kind, the name callers use, the function,
/// and what it does.
///
/// | kind | function |
/// |---|---|
/// | `call` | `fn(&mut Call, I) -> Result<O>`, where `I` is a [`FromInput`] and `O` an [`Output`] |
/// | `map` | `fn(&mut Call, &mut Parts, &mut Emit) -> Result<()>` |
/// | `combine`, `reduce` | `fn(&mut Call, &mut Groups, &mut Emit) -> Result<()>` |
#[macro_export]
macro_rules! functions {
    ($($kind:ident $name:literal => $function:path, $description:literal);* $(;)?) => {
        $(const _: () = {
            #[cfg_attr(target_arch = "wasm32", export_name = $name)]
            #[allow(dead_code)]
            pub extern "C" fn run() -> i32 {
                $crate::run($name, |call| $crate::Function::$kind($function, call))
            }
        };)*
        const _: () = {
            #[cfg_attr(target_arch = "wasm32", export_name = "wattle_describe")]
            #[allow(dead_code)]
            pub extern "C" fn describe() -> i32 {
                $crate::describe(&[$(($name, stringify!($kind), $description)),*])
            }
            #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
            #[export_name = "_initialize"]
            pub extern "C" fn initialize() {
                $crate::prepare();
            }
        };
    };
}

/// The kinds of functions, and how each is run.
pub struct Function;

impl Function {
    pub fn call<I: FromInput, O: Output>(f: impl FnOnce(&mut Call, I) -> Result<O>, call: &mut Call) -> Result<()> {
        let input = I::from_input(call)?;
        let output = f(call, input)?;
        output.write_to(call);
        Ok(())
    }

    pub fn map(f: impl FnOnce(&mut Call, &mut Parts, &mut Emit) -> Result<()>, call: &mut Call) -> Result<()> {
        call.wants("split")?;
        emitting(call, |call, emit| f(call, &mut Parts::new(), emit))
    }

    pub fn combine(f: impl FnOnce(&mut Call, &mut Groups, &mut Emit) -> Result<()>, call: &mut Call) -> Result<()> {
        call.wants("groups")?;
        emitting(call, |call, emit| f(call, &mut Groups::new(), emit))
    }

    pub fn reduce(f: impl FnOnce(&mut Call, &mut Groups, &mut Emit) -> Result<()>, call: &mut Call) -> Result<()> {
        Function::combine(f, call)
    }
}

fn emitting(call: &mut Call, f: impl FnOnce(&mut Call, &mut Emit) -> Result<()>) -> Result<()> {
    let mut emit = Emit::new();
    f(call, &mut emit)?;
    emit.finish();
    if emit.emitted && call.wrote {
        return Err(Error::permanent("the function emitted records and wrote to its output; it may do one of them only"));
    }
    Ok(())
}

/// Runs a function and answers its status.
pub fn run(name: &'static str, f: impl FnOnce(&mut Call) -> Result<()>) -> i32 {
    match f(&mut Call::new(name)) {
        Ok(()) => 0,
        Err(err) => {
            abi::error_write(err.to_string().as_bytes());
            1 + i32::from(err.is_permanent())
        }
    }
}

/// Writes the description of functions, each a name, a kind and what it does.
pub fn describe(functions: &[(&str, &str, &str)]) -> i32 {
    let describe = |(name, kind, text): &(&str, &str, &str)| Json::object([("name", *name), ("kind", *kind), ("description", text.trim())]);
    let all = Json::Array(functions.iter().map(describe).collect());
    abi::output_write(format!("{{\"abi\":1,\"functions\":{}}}", all).as_bytes());
    0
}

/// Makes panics say why: they are crashes, and without WASI there is no stderr to write to.
pub fn prepare() {
    std::panic::set_hook(Box::new(|info| abi::error_write(info.to_string().as_bytes())));
}
