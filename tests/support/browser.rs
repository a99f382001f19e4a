//! A headless Chromium, driven through `tests/node/browser.js`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{DEADLINE, node};

/// A browser with one page. Closed when dropped.
pub struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts one.
    pub fn start() -> Self {
        let mut child = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/browser.js"))
            .env("LOUSHAN_TEST_NODE", node())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Has it do something; its answer.
    pub fn tell(&mut self, mut what: Value, name: &str) -> Value {
        what["do"] = name.into();
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{what}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the browser ended at {what}: {e}: {line:?}"));
        assert!(answer.get("error").is_none(), "{what}: {}", answer["error"].as_str().unwrap());
        answer["ok"].take()
    }

    /// A new page; see `open` in `browser.js`.
    pub fn open(&mut self, options: Value) {
        self.tell(options, "open");
    }

    /// Goes to an address, and waits until the console has shown the page there.
    pub fn visit(&mut self, url: &str) {
        self.tell(json!({ "url": url }), "goto");
        self.shown();
    }

    /// Goes to another page of the console, as a link does.
    pub fn go(&mut self, hash: &str) {
        // It may be there already: then nothing would say that it was shown again.
        self.evaluate(&format!(
            "document.querySelector('.page')?.removeAttribute('data-shown'), location.hash = '#/gone', \
             location.hash = {}",
            json!(hash)
        ));
        let at = format!(
            "location.hash === {} && document.querySelector('.page[data-shown] h1')",
            json!(hash)
        );
        self.wait(&format!("{hash} to be shown"), &format!("{at} !== null && {at} !== false"));
    }

    /// Waits until a page of the console is shown.
    pub fn shown(&mut self) {
        self.wait("a page to be shown", "document.querySelector('.page[data-shown] h1') !== null");
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, script: &str) -> Value {
        self.tell(json!({ "script": script }), "evaluate")
    }

    /// Waits until an expression is true in the page; its value.
    pub fn wait(&mut self, what: &str, script: &str) -> Value {
        let patience_ms = u64::try_from(DEADLINE.as_millis()).unwrap();
        self.tell(json!({ "script": script, "what": what, "patience_ms": patience_ms }), "wait")
    }

    /// Waits until an element has a text.
    pub fn wait_text(&mut self, selector: &str, text: &str) {
        let selector = json!(selector);
        let text = json!(text);
        let what = format!("{selector} to say {text}");
        self.wait(
            &what,
            &format!(
                "[...document.querySelectorAll({selector})].some((it) => it.textContent.includes({text}))"
            ),
        );
    }

    /// The text of the first element that matches.
    pub fn text(&mut self, selector: &str) -> String {
        let text =
            self.evaluate(&format!("document.querySelector({})?.textContent", json!(selector)));
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Waits for an element and clicks it.
    pub fn click(&mut self, selector: &str) {
        self.wait(
            &format!("{selector} to be there"),
            &format!("document.querySelector({}) !== null", json!(selector)),
        );
        self.tell(json!({ "selector": selector }), "click");
    }

    /// Types a text into a field, in the place of what is there.
    pub fn type_into(&mut self, selector: &str, text: &str) {
        self.tell(json!({ "selector": selector, "text": text }), "type");
    }

    /// Chooses from a list.
    pub fn select(&mut self, selector: &str, value: &str) {
        self.tell(json!({ "selector": selector, "value": value }), "select");
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) {
        self.tell(json!({ "key": key }), "press");
    }

    /// Drags the mouse over an element, between two shares of its width.
    pub fn drag(&mut self, selector: &str, from: f64, to: f64) {
        self.tell(json!({ "selector": selector, "from": from, "to": to }), "drag");
    }

    /// What axe finds wrong with the page as it is.
    pub fn axe(&mut self) -> Vec<String> {
        serde_json::from_value(self.tell(json!({}), "axe")).unwrap()
    }

    /// What the browser complained of since it was last asked.
    pub fn complaints(&mut self) -> Vec<String> {
        serde_json::from_value(self.tell(json!({}), "complaints")).unwrap()
    }

    /// Seconds of a core that the browser has used so far, all its processes taken together.
    pub fn busy(&mut self) -> f64 {
        self.tell(json!({}), "busy").as_f64().unwrap()
    }

    /// A picture of the page.
    pub fn screenshot(&mut self, path: &Path) {
        self.tell(json!({ "path": path }), "screenshot");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its input ends: it closes Chromium and goes.
        drop(self.input.take());
        drop(self.child.wait());
    }
}
