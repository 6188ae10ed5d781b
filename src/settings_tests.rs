use super::*;
use clap::Parser;

#[derive(Parser)]
struct Run {
    #[command(flatten)]
    args: RunArgs,
}

fn settings(flags: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
    let args = Run::try_parse_from([&["run"], flags].concat()).map_err(|error| error.to_string())?.args;
    let look_up =
        |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    args.settle(look_up).map_err(|error| error.to_string())
}

#[test]
fn in_a_pod_nothing_need_be_given() {
    let pod = [("POD_NAMESPACE", "feedwater-system"), ("POD_NAME", "feedwater-1")];
    let settings = settings(&[], &pod).unwrap();
    assert_eq!(settings.scope, Scope::Cluster);
    assert_eq!(settings.lease.namespace, "feedwater-system");
    assert!(settings.lease.identity.starts_with("feedwater-1_"), "{}", settings.lease.identity);
    assert_eq!(settings.settle, Duration::from_secs(30));
    assert_eq!(settings.allowed_hosts, None);
    assert_eq!(settings.log_filter, "info");
}

#[test]
fn flags_win_over_the_environment() {
    let flags = ["--namespace=a", "--lease-namespace=b", "--identity=me", "--log-filter=debug"];
    let settings = settings(&flags, &[("POD_NAMESPACE", "c"), ("RUST_LOG", "trace")]).unwrap();
    assert_eq!(settings.scope, Scope::Namespace("a".to_owned()));
    assert_eq!(settings.lease.namespace, "b");
    assert_eq!(settings.lease.identity, "me");
    assert_eq!(settings.log_filter, "debug");
}

#[test]
fn without_any_namespace_the_error_says_what_to_set() {
    let error = settings(&[], &[]).unwrap_err();
    assert!(error.contains("--lease-namespace"), "{error}");
    assert_eq!(settings(&["--namespace=a"], &[]).unwrap().lease.namespace, "a");
}

#[test]
fn hosts_are_hosts() {
    let hosts = |list| settings(&["--namespace=a", "--allowed-hosts", list], &[]).map(|s| s.allowed_hosts);
    let read = hosts("Prefect.Acme.Internal,127.0.0.1,[::1]").unwrap().unwrap();
    assert_eq!(read, ["prefect.acme.internal", "127.0.0.1", "[::1]"]);
    for bad in ["https://a.example", "a.example/api", "a,,b", "user@a"] {
        assert!(hosts(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_wrong_value_is_refused_at_the_start() {
    for flags in [["--settle=1d"], ["--instance=a/b"], ["--admin-address=8080"], ["--log-format=xml"]] {
        assert!(settings(&[&flags[..], &["--namespace=a"]].concat(), &[]).is_err(), "{flags:?}");
    }
}
