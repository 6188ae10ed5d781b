//! Who may sign in, as administrators set it up in the browser: users, connected apps, external authorization servers.

use super::state::{Missing, State, missing};
use super::trust::{AuthorizationServer, ConnectedApp};
use super::{Simulator, must};

impl Simulator {
    /// Adds a user of a site, who administers it; that is no change when there is one.
    pub fn add_user(&self, site: &str, name: &str) {
        must(self.shared.change(|state, _| state.add_user(site, name)));
    }

    /// Adds a secret to a connected app with direct trust, which is made when there is none of that client id.
    pub fn add_connected_app(&self, site: &str, client_id: &str, secret_id: &str, secret_value: &str) {
        must(self.shared.change(|state, _| state.add_app_secret(site, client_id, secret_id, secret_value)));
    }

    /// Removes a secret of a connected app. Who has signed in stays so.
    pub fn remove_app_secret(&self, site: &str, client_id: &str, secret_id: &str) {
        must(self.shared.change(|state, _| state.remove_app_secret(site, client_id, secret_id)));
    }

    /// Registers an external authorization server for OAuth 2.0 trust; its keys are fetched from `jwks_url`.
    pub fn register_authorization_server(&self, site: &str, issuer: &str, jwks_url: &str) {
        must(self.shared.change(|state, _| state.register_server(site, issuer, jwks_url)));
    }
}

impl State {
    pub(super) fn add_user(&mut self, site: &str, name: &str) -> Result<(), Missing> {
        self.site(site)?.user(name);
        Ok(())
    }

    pub(super) fn add_app_secret(
        &mut self,
        site: &str,
        client_id: &str,
        secret_id: &str,
        value: &str,
    ) -> Result<(), Missing> {
        let apps = &mut self.site(site)?.trust.apps;
        let secret = (secret_id.to_owned(), value.to_owned());
        match apps.iter_mut().find(|app| app.client_id == client_id) {
            Some(app) => {
                app.secrets.retain(|(id, _)| id != secret_id);
                app.secrets.push(secret);
            }
            None => apps.push(ConnectedApp { client_id: client_id.to_owned(), secrets: vec![secret] }),
        }
        Ok(())
    }

    pub(super) fn remove_app_secret(
        &mut self,
        site: &str,
        client_id: &str,
        secret_id: &str,
    ) -> Result<(), Missing> {
        let apps = &mut self.site(site)?.trust.apps;
        let app = apps.iter_mut().find(|app| app.client_id == client_id);
        let app = app.ok_or_else(|| missing("connected app", client_id))?;
        app.secrets.retain(|(id, _)| id != secret_id);
        Ok(())
    }

    pub(super) fn register_server(
        &mut self,
        site: &str,
        issuer: &str,
        jwks_url: &str,
    ) -> Result<(), Missing> {
        let servers = &mut self.site(site)?.trust.servers;
        servers.retain(|server| server.issuer != issuer);
        servers.push(AuthorizationServer { issuer: issuer.to_owned(), jwks_url: jwks_url.to_owned() });
        Ok(())
    }
}
