//! `netctl events`: what happens, line by line, until netd or the reader goes away.

use std::path::Path;

use cnm::{
    Error,
    client::Client,
    events::{Event, Notification, Subscribe},
};

use crate::{
    args::Format,
    out::{self, Outcome},
};

/// Prints events as they come.
pub(crate) fn events(socket: &Path, Format { json }: Format) -> Outcome {
    let mut client = Client::connect(socket)?;
    client.call(&Subscribe {})?;
    loop {
        let text = client.next_line()?;
        let Notification { params: event, .. } = serde_json::from_str(&text).map_err(|error| {
            Error::internal(format_args!("netd's event is not understood: {error}"))
        })?;
        out::print(&if json { line_of_json(&event) } else { line(&event) })?;
    }
}

fn line_of_json(event: &Event) -> String {
    serde_json::to_string(event).expect("an event has text keys only") + "\n"
}

fn line(event: &Event) -> String {
    let Event { time, object, action, id, attributes } = event;
    let attributes: Vec<_> =
        attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if attributes.is_empty() {
        format!("{time} {object} {action} {id}\n")
    } else {
        format!("{time} {object} {action} {id} ({})\n", attributes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let mut event = Event {
            time: "2026-01-02T03:04:05.000000006Z".into(),
            object: "endpoint".into(),
            action: "attach".into(),
            id: "0123".into(),
            attributes: [("network".into(), "app".into()), ("container".into(), "web".into())]
                .into(),
        };
        assert_eq!(
            line(&event),
            "2026-01-02T03:04:05.000000006Z endpoint attach 0123 (container=web, network=app)\n"
        );
        event.attributes.clear();
        assert_eq!(line(&event), "2026-01-02T03:04:05.000000006Z endpoint attach 0123\n");
        let text = line_of_json(&event);
        assert_eq!(serde_json::from_str::<Event>(&text).expect("an event"), event);
    }
}
