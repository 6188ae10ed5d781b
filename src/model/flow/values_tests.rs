use super::*;
use crate::api::{Correction, DriftMode, FlowDeploymentStatus, Time};
use crate::model::conditions::reason_of;
use crate::model::flow::tests::{desired, later, now, present, settled, there};
use crate::model::flow::{Ack, Failure, Observed, Step, View, WorkspaceView, Write, WriteKind, decide, fold};
use serde_json::json;

const SPEC: &str = r#"{"jobVariables": {"env": {"LOG": "INFO"}}, "valuesFrom": [
    {"path": "jobVariables.env.TOKEN", "secretKeyRef": {"name": "orders", "key": "token"}},
    {"path": "parameters.password", "secretKeyRef": {"name": "db", "key": "password"}}]}"#;

fn with(values: [&str; 2]) -> Desired {
    let mut d = desired(&serde_json::from_str(SPEC).unwrap());
    for (at, value) in d.values_from.clone().iter().zip(values) {
        d.put(at, value);
    }
    d
}

fn read_at(version: &str) -> Values {
    Values::Put(["db", "orders"].map(|name| (name.to_owned(), version.to_owned())).into())
}

#[test]
fn values_are_put_where_they_belong_and_shown_nowhere() {
    let d = with(["hunter2", "hunter3"]);
    assert_eq!(d.fields["job_variables"], json!({"env": {"LOG": "INFO", "TOKEN": "hunter2"}}));
    assert_eq!(d.fields["parameters"], json!({"password": "hunter3"}));
    let mut o = present(&json!({"job_variables": {"env": {"TOKEN": "hunter1"}}}));
    o.values = read_at("1");
    let mut status = decide(&d, &o, &FlowDeploymentStatus::default(), now()).status;
    let decision = decide(&d, &o, &status, now());
    let Step::Do(writes) = &decision.step else { panic!("{decision:?}") };
    assert!(
        matches!(&writes[0], Write::Patch { fields, .. } if fields["parameters"]["password"] == "hunter3")
    );
    status.applied_fields.clone_from(&decision.status.applied_fields);
    assert!(status.applied_fields.contains(&"parameters".to_owned()));
    let told = format!("{d:?}{o:?}{decision:?}{}", serde_json::to_string(&decision.status).unwrap());
    assert!(!told.contains("hunter"), "{told}");
}

#[test]
fn a_rotated_secret_is_written_and_is_no_drift() {
    for mode in ["Enabled", "Warn", "Disabled"] {
        let mut spec: serde_json::Value = serde_json::from_str(SPEC).unwrap();
        spec["driftDetection"] = json!({"mode": mode});
        let fill = |values: [&str; 2]| {
            let mut d = desired(&spec);
            for (at, value) in d.values_from.clone().iter().zip(values) {
                d.put(at, value);
            }
            d
        };
        let old = fill(["a", "b"]);
        let mut o = present(&json!({}));
        let View::Present(there) = &mut o.deployment else { unreachable!() };
        for field in ["job_variables", "parameters"] {
            there.fields.insert(field.into(), old.fields[field].clone());
        }
        o.values = read_at("1");
        let status = decide(&old, &o, &FlowDeploymentStatus::default(), now()).status;
        assert_eq!(reason_of(&status, "Ready"), Some("InSync"));
        assert_eq!(decide(&old, &o, &status, now()).status, status, "at rest");

        o.values = read_at("2");
        let intent = decide(&fill(["a", "c"]), &o, &status, now());
        assert_eq!(
            (intent.step, intent.notes, intent.status.last_drift),
            (Step::Intend, vec![], None),
            "{mode}"
        );
        let act =
            decide(&fill(["a", "c"]), &o, &FlowDeploymentStatus { last_drift: None, ..intent.status }, now());
        assert!(matches!(act.step, Step::Do(_)), "{mode}");
        // Only its metadata has changed: it is remembered, and nothing is written to Prefect.
        let same = decide(&old, &o, &status, now());
        assert_eq!((same.step, same.status.secrets.len()), (Step::Rest, 2));
    }
}

#[test]
fn a_rotated_secret_takes_nothing_else_along_that_the_mode_leaves() {
    for mode in ["Warn", "Disabled"] {
        let declared = |mut d: Desired| {
            d.fields.insert("description".into(), json!("ours"));
            d.drift = if mode == "Warn" { DriftMode::Warn } else { DriftMode::Disabled };
            d
        };
        let (old, new) = (declared(with(["a", "b"])), declared(with(["a", "c"])));
        let had = |d: &Desired, description: &str| {
            let (variables, parameters) = (&d.fields["job_variables"], &d.fields["parameters"]);
            present(
                &json!({"job_variables": variables, "parameters": parameters, "description": description}),
            )
        };
        let at = |version: &str, o: Observed| Observed { values: read_at(version), ..o };
        let status =
            decide(&old, &at("1", had(&old, "ours")), &FlowDeploymentStatus::default(), now()).status;
        // Only the metadata of the Secret has changed.
        let theirs = decide(&old, &at("2", had(&old, "theirs")), &status, now());
        assert_eq!((&theirs.step, &theirs.status.secrets[0].resource_version[..]), (&Step::Rest, "2"));
        let rotated = at("3", had(&old, "theirs"));
        let intent = decide(&new, &rotated, &theirs.status, now());
        assert_eq!(intent.step, Step::Intend, "{mode}");
        let Step::Do(writes) = decide(&new, &rotated, &intent.status, now()).step else { panic!() };
        let sent = json!({"parameters": {"password": "c"}});
        assert!(
            matches!(&writes[0], Write::Patch { fields, .. } if Value::from(fields.clone()) == sent),
            "{writes:?}"
        );
        // The runs that cost are asked for, and then it is as it was.
        let done = at("3", had(&new, "theirs"));
        assert!(matches!(decide(&new, &done, &intent.status, now()).step, Step::Do(_)));
        let rest = FlowDeploymentStatus { pending_write: None, ..intent.status };
        let rest = decide(&new, &done, &rest, now());
        let drifted = if mode == "Warn" { "DriftDetected" } else { "NoDrift" };
        assert_eq!((rest.step, reason_of(&rest.status, "Drifted")), (Step::Rest, Some(drifted)));
    }
}

/// Prefect refuses the new value; then everything of it that is in memory is lost, and the connection goes for a while.
#[test]
fn a_rotated_secret_that_was_refused_is_tried_again_whatever_happens_meanwhile() {
    let declared = |values| Desired { drift: DriftMode::Warn, ..with(values) };
    let (old, new) = (declared(["a", "b"]), declared(["a", "c"]));
    let had = present(
        &json!({"job_variables": old.fields["job_variables"], "parameters": old.fields["parameters"]}),
    );
    let at = |version: &str| Observed { values: read_at(version), ..had.clone() };
    let status = decide(&old, &at("1"), &FlowDeploymentStatus::default(), now()).status;
    let intent = decide(&new, &at("2"), &status, now()).status;
    let refused = [Ack::Failed(WriteKind::Patch, Failure::Invalid { fields: Vec::new() })];
    let refused = fold(&new, &at("2"), &intent, &refused, now());
    assert_eq!(reason_of(&refused.status, "Ready"), Some("RemoteRejected"));
    let made_good = FlowDeploymentStatus { pending_write: None, ..refused.status };
    let waits = Observed { memory: refused.memory, ..at("2") };
    let held = decide(&new, &waits, &made_good, later(59));
    assert_eq!((held.step, held.again), (Step::Rest, Some(later(60))), "not in a hot loop");
    // Another value is tried at once.
    let third = Observed { values: read_at("3"), ..waits };
    assert_eq!(decide(&declared(["a", "d"]), &third, &made_good, later(1)).step, Step::Intend);

    let away = Observed { workspace: WorkspaceView::Missing, ..at("2") };
    let away = decide(&new, &away, &made_good, later(61)).status;
    assert_eq!(decide(&new, &at("2"), &away, later(62)).step, Step::Intend);
}

#[test]
fn a_rotated_secret_does_not_wait_until_a_contest_is_over() {
    let old = with(["a", "b"]);
    let mut o = present(&json!({"description": "theirs"}));
    let View::Present(there) = &mut o.deployment else { unreachable!() };
    there.fields.insert("job_variables".into(), old.fields["job_variables"].clone());
    there.fields.insert("parameters".into(), json!({"password": "theirs"}));
    let declared = |mut d: Desired| {
        d.fields.insert("description".into(), json!("ours"));
        d
    };
    let fields = || ["description".to_owned(), "parameters".to_owned()];
    let correction = |field| Correction { field, at: vec![Time(now()); 3] };
    o.values = read_at("1");
    let status = FlowDeploymentStatus {
        secrets: o.values.applied(),
        corrections: fields().into_iter().map(correction).collect(),
        contested: fields().into(),
        ..settled(&desired(&json!({})))
    };
    assert_eq!(decide(&declared(old), &o, &status, now()).step, Step::Rest, "both are left");
    o.values = read_at("2");
    let new = declared(with(["a", "c"]));
    let intent = decide(&new, &o, &status, now());
    assert_eq!((intent.step, &intent.status.contested[..]), (Step::Intend, &fields()[..1]));
    let Step::Do(writes) = decide(&new, &o, &intent.status, now()).step else { panic!() };
    let sent = json!({"parameters": {"password": "c"}});
    assert!(
        matches!(&writes[0], Write::Patch { fields, .. } if Value::from(fields.clone()) == sent),
        "{writes:?}"
    );
}

#[test]
fn without_its_values_nothing_is_touched_and_the_condition_says_why() {
    let d = desired(&serde_json::from_str(SPEC).unwrap());
    let before = settled(&desired(&json!({})));
    let missing = NoValue::KeyMissing { secret: "db".into(), key: "password".into() };
    for (missing, reason, names) in [
        (NoValue::NotFound("db".into()), "SecretNotFound", "`db`"),
        (missing, "SecretKeyMissing", "`password`"),
        (NoValue::Denied("db".into()), "SecretAccessDenied", "manifests/tenant"),
        (NoValue::Credential("db".into()), "SecretAccessDenied", "credentials of a connection"),
    ] {
        let mut o = present(&json!({"entrypoint": "by hand"}));
        o.values = Values::Missing(missing);
        let decision = decide(&d, &o, &before, now());
        assert_eq!((&decision.step, reason_of(&decision.status, "Ready")), (&Step::Rest, Some(reason)));
        let ready = decision.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
        assert!(ready.status == "False" && ready.message.contains(names), "{}", ready.message);
        assert_eq!(decide(&d, &o, &decision.status, now()).status, decision.status, "at rest");
        o.values = Values::Unread;
        assert_eq!(decide(&d, &o, &decision.status, now()).status, decision.status, "after a restart");
    }
}

#[test]
fn paths_that_lead_nowhere_are_refused() {
    let refused = |job_variables: Value, paths: &[&str]| {
        let entry = |path: &&str| json!({"path": path, "secretKeyRef": {"name": "s", "key": "k"}});
        let values: Vec<Value> = paths.iter().map(entry).collect();
        let spec = json!({"workspaceRef": {"name": "prod"}, "flowName": "f", "entrypoint": "f.py:f", "workPool": {"name": "etl"},
                          "jobVariables": job_variables, "valuesFrom": values});
        let spec: FlowDeploymentSpec = serde_json::from_value(spec).unwrap();
        parse(&spec, &mut Fields::from_iter([("job_variables".to_owned(), job_variables)]))
            .err()
            .map(|e| e.message)
    };
    let none = || json!({});
    for (declared, paths, names) in [
        (none(), &["tags.a"][..], "must begin with"),
        (none(), &["jobVariables"], "must name a value"),
        (none(), &["jobVariables..a"], "must name a value"),
        (none(), &["parameters.a.__prefect_kind"], "must name a value"),
        (none(), &["jobVariables.a", "jobVariables.a"], "twice"),
        (none(), &["jobVariables.a", "jobVariables.a.b"], "within the other"),
        (none(), &["jobVariables.a.b", "jobVariables.a"], "within the other"),
        (json!({"env": "text"}), &["jobVariables.env.A"], "spec.jobVariables.env is no object"),
        (json!({"a": {"b": [1]}}), &["jobVariables.a.b.c.d"], "spec.jobVariables.a.b is no object"),
    ] {
        let message = refused(declared, paths).unwrap_or_default();
        assert!(message.contains(names), "{paths:?}: {message}");
    }
    assert_eq!(
        refused(json!({"a": "replaced"}), &["jobVariables.a", "jobVariables.ab", "parameters.a"]),
        None
    );
}

#[test]
fn version_info_is_for_prefect_cloud() {
    let d = desired(&json!({"versionInfo": {"type": "vcs:git", "version": "abc"}}));
    let mut o = present(&json!({}));
    let refused = decide(&d, &o, &FlowDeploymentStatus::default(), now());
    assert_eq!(
        (&refused.step, reason_of(&refused.status, "Stalled")),
        (&Step::Rest, Some("UnsupportedSpec"))
    );
    o.cloud = true;
    let intent = decide(&d, &o, &refused.status, now()).status;
    let Step::Do(writes) = decide(&d, &o, &intent, now()).step else { panic!() };
    let sent = json!({"version_info": {"type": "vcs:git", "version": "abc"}});
    assert!(
        matches!(&writes[0], Write::Patch { fields, .. } if Value::from(fields.clone()) == sent),
        "{writes:?}"
    );
    // Cloud adds to it, and what was said stays said.
    let more = there(&json!({"version_info": {"type": "vcs:git", "version": "abc", "branch": "main"}}));
    o.deployment = View::Present(more);
    let said = decide(&d, &o, &intent, now()).status;
    assert!(said.applied_fields.contains(&"versionInfo".to_owned()));
    let silent =
        decide(&desired(&json!({})), &o, &FlowDeploymentStatus { pending_write: None, ..said }, now());
    assert_eq!(reason_of(&silent.status, "Ready"), Some("InSync"));
}
