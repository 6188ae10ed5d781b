//! The events of a Kubernetes watch: one line of JSON each.

use std::io::Result;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::journal::Entry;
use super::line::Line;
use super::message::Body;
use super::rule::{Armed, EventAction, Rules};
use super::serve::Next;

/// Passes a watch on, line by line, as the rules want it.
pub(super) async fn pass(
    client: &mut Line,
    upstream: &mut Line,
    mut body: Body,
    rules: &Rules,
    watch: &Entry,
) -> Result<Next> {
    let frame = body;
    let mut pending = BytesMut::new();
    let mut sent: Vec<Bytes> = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = body.next(upstream) => piece?,
            () = client.closed() => return Ok(Next::Close),
        };
        let Some(piece) = piece else { break };
        pending.extend_from_slice(&piece);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line = pending.split_to(end + 1).freeze();
            let Some((rule, action)) = meant(&line, rules, watch) else {
                client.send(&frame.framed(&line)).await?;
                sent.push(line);
                continue;
            };
            match action {
                EventAction::Skip => continue,
                EventAction::Hold => tokio::select! {
                    () = rule.until_released() => {}
                    () = client.closed() => return Ok(Next::Close),
                },
                EventAction::Gone => {
                    client.send(&frame.framed(GONE)).await?;
                    client.send(frame.end()).await?;
                    return Ok(Next::Close);
                }
                EventAction::CutMidLine => {
                    client.send(&frame.framed(&line[..line.len() / 2])).await?;
                    return Ok(Next::Close);
                }
                EventAction::Replay => {}
            }
            client.send(&frame.framed(&line)).await?;
            if action == EventAction::Replay {
                for old in &sent {
                    client.send(&frame.framed(old)).await?;
                }
            }
            sent.push(line);
        }
    }
    client.send(&frame.framed(&pending)).await?;
    client.send(frame.end()).await?;
    Ok(Next::GoOn)
}

/// The first rule that means this event.
fn meant(line: &[u8], rules: &Rules, watch: &Entry) -> Option<(Arc<Armed>, EventAction)> {
    let rules = rules.events(watch);
    if rules.is_empty() {
        return None;
    }
    let event: Value = serde_json::from_slice(line).ok()?;
    rules.into_iter().find_map(|rule| rule.event(&event).map(|action| (rule, action)))
}

/// What a kube-apiserver says when a watch cannot go on from where the client is.
const GONE: &[u8] =
    b"{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\
    \"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";
