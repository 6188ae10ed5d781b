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
    assert_eq!(settings.allowed_hosts, []);
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
    assert_eq!(hosts("Prefect.Acme.Internal,127.0.0.1:8080,[::1]").unwrap().len(), 3);
    for bad in ["https://a.example", "a.example/api", "a,,b", "user@a", "a:b"] {
        assert!(hosts(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_wrong_value_is_refused_at_the_start() {
    for flags in [["--settle=1d"], ["--instance=a/b"], ["--admin-address=8080"], ["--log-format=xml"]] {
        assert!(settings(&[&flags[..], &["--namespace=a"]].concat(), &[]).is_err(), "{flags:?}");
    }
}

#[test]
fn the_readme_names_every_flag_with_its_variable() {
    use clap::CommandFactory;
    let readme = include_str!("../README.md");
    let command = Run::command();
    let flags: Vec<_> =
        command.get_arguments().filter_map(|arg| Some((arg.get_long()?, arg.get_env()?))).collect();
    assert_eq!(flags.len(), 12, "every flag has a variable");
    for (flag, variable) in flags {
        let variable = variable.to_string_lossy();
        assert_eq!(variable, format!("FEEDWATER_{}", flag.replace('-', "_").to_uppercase()));
        assert!(readme.contains(&format!("`--{flag}")), "README.md says nothing of --{flag}");
    }
}
