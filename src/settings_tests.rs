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
fn tokens_of_the_service_account_are_listed_one_by_one() {
    let one = "audience=a,file=/a,token-url=https://idp.acme.com/token,namespace=finance";
    let two = "audience=b,file=/b,token-url=https://idp.acme.com/token,namespace=*";
    let expected = [one.parse().unwrap(), two.parse().unwrap()];
    let flags = [format!("--service-account-token={one}"), format!("--service-account-token={two}")];
    let both = settings(&["--namespace=a", &flags[0], &flags[1]], &[]).unwrap();
    assert_eq!(both.service_account_tokens, expected);
    let joined = format!("--service-account-token={one};{two}");
    assert_eq!(settings(&["--namespace=a", &joined], &[]).unwrap().service_account_tokens, expected);
}

#[test]
fn a_wrong_value_is_refused_at_the_start() {
    for flags in [
        ["--settle=1d"],
        ["--instance=a/b"],
        ["--admin-address=8080"],
        ["--log-format=xml"],
        ["--service-account-token=audience=a"],
    ] {
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
    assert_eq!(flags.len(), 13, "every flag has a variable");
    for (flag, variable) in flags {
        let variable = variable.to_string_lossy();
        assert_eq!(variable, format!("FEEDWATER_{}", flag.replace('-', "_").to_uppercase()));
        assert!(readme.contains(&format!("`--{flag}")), "README.md says nothing of --{flag}");
    }
}

#[test]
fn the_proxy_is_the_environments() {
    let proxy = |environment: &[(&str, &str)]| settings(&["--namespace=a"], environment).map(|s| s.proxy);
    assert_eq!(proxy(&[("NO_PROXY", "*"), ("HTTPS_PROXY", "")]), Ok(None));
    let through = proxy(&[("https_proxy", "proxy:3128"), ("no_proxy", ".corp")]).unwrap().unwrap();
    let goes = |url: &str| through.of(&url::Url::parse(url).unwrap()).is_some();
    assert_eq!((goes("https://prefect.example.com"), goes("https://prefect.corp")), (true, false));
    let refused = proxy(&[("HTTPS_PROXY", "socks5://u:hunter2@proxy")]).unwrap_err();
    assert!(refused.contains("HTTPS_PROXY") && !refused.contains("hunter2"), "{refused}");
}

#[test]
fn the_name_of_an_object_is_what_kubernetes_takes() {
    let longest = "a".repeat(253);
    for name in ["prod", "prod.eu-1", "1", &longest] {
        assert_eq!(object_name(name), Ok(name.to_owned()));
    }
    for name in
        ["", "Prod", "my prod", "prod.", ".prod", "a..b", "-a", "a-", "a.-b", "pröd", &format!("a{longest}")]
    {
        assert!(object_name(name).is_err(), "{name}");
    }
}
