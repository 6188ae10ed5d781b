//! Keys and certificates of one control plane: an authority for serving, another one for clients, and the key that signs
//! service account tokens. All are made anew for each world.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// File name of the authority that signed the kube-apiserver's certificate.
pub const SERVING_CA: &str = "serving-ca.crt";
/// File name of the kube-apiserver's certificate.
pub const SERVING_CERTIFICATE: &str = "apiserver.crt";
/// File name of its key.
pub const SERVING_KEY: &str = "apiserver.key";
/// File name of the authority whose client certificates are accepted.
pub const CLIENT_CA: &str = "client-ca.crt";
/// File name of the key that signs service account tokens.
pub const ACCOUNT_KEY: &str = "service-accounts.key";
/// File name of the key that verifies them.
pub const ACCOUNT_PUBLIC_KEY: &str = "service-accounts.pub";

/// All of them, as PEM.
pub struct Certificates {
    pub serving_ca: String,
    serving: Pair,
    client_ca: String,
    client_issuer: Issuer<'static, KeyPair>,
    account_key: KeyPair,
}

/// A certificate and its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Certificates {
    /// Makes all of them.
    pub fn make() -> Result<Self, Error> {
        let (serving_ca, serving_issuer) = authority("feedwater-world-serving")?;
        let (client_ca, client_issuer) = authority("feedwater-world-clients")?;
        let names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let serving = signed(params, &serving_issuer)?;
        Ok(Self { serving_ca, serving, client_ca, client_issuer, account_key: KeyPair::generate()? })
    }

    /// Writes what the kube-apiserver reads, under the file names above.
    pub fn write(&self, directory: &Path) -> std::io::Result<()> {
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text);
        write(SERVING_CA, &self.serving_ca)?;
        write(SERVING_CERTIFICATE, &self.serving.certificate)?;
        write(SERVING_KEY, &self.serving.key)?;
        write(CLIENT_CA, &self.client_ca)?;
        write(ACCOUNT_KEY, &self.account_key.serialize_pem())?;
        write(ACCOUNT_PUBLIC_KEY, &self.account_key.public_key_pem())
    }

    /// A client certificate: the user is the common name, the group the organisation.
    pub fn client(&self, user: &str, group: &str) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        signed(params, &self.client_issuer)
    }
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    Ok((certificate, Issuer::new(params, key)))
}

fn signed(mut params: CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Pair { certificate, key: key.serialize_pem() })
}
