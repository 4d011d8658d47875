//! An instance of Keymark in this process.

use std::sync::Arc;
use std::time::Duration;

use keymark::auth::cost::Cost;
use keymark::clock::{Environment, SystemStopwatch};
use keymark::coherence::Coherence;
use keymark::coherence::protocol::Role;
use keymark::config::Config;
use keymark::domain::operators::Password;
use keymark::domain::permissions::Permissions;
use keymark::domain::quota::Quota;
use keymark::domain::secrets::{Keyring, RootSecret};
use keymark::service::concurrency::ConcurrencyLimits;
use keymark::service::sessions::{NewSession, SignIn};
use keymark::service::{Service, Settings};
use keymark::store::Store;
use tokio_util::sync::CancellationToken;

pub const PASSWORD: &str = "correct horse battery";

pub struct Instance {
    pub service: Arc<Service>,
    pub coherence: Arc<Coherence>,
}

pub fn root_secret(byte: u8) -> RootSecret {
    RootSecret::new(vec![byte; 32]).expect("a secret")
}

impl Instance {
    /// Starts an instance over this store, and returns it when it is ready. Passwords have the default cost, or a
    /// negligible one.
    pub async fn start(store: &Arc<dyn Store>, costly_passwords: bool) -> Self {
        Self::start_with(store, costly_passwords, Keyring::new(&root_secret(7), &[])).await
    }

    pub async fn start_with(store: &Arc<dyn Store>, costly_passwords: bool, keys: Keyring) -> Self {
        let config = Config::default();
        let role = if store.is_shared() { Role::Member(config.timing) } else { Role::Standalone };
        let environment = Environment::system();
        let coherence = Coherence::new(Arc::clone(store), environment.clone(), Arc::new(SystemStopwatch), role);
        let negligible = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let password_cost = if costly_passwords { Cost::default() } else { negligible };
        // Benchmarks open any number of sockets as one operator.
        let concurrency = ConcurrencyLimits { sockets: usize::MAX >> 4, ..ConcurrencyLimits::default() };
        // And any number of calls with one token.
        let token_calls = Quota { burst: u32::MAX, interval: Duration::from_nanos(1) };
        let settings =
            Settings { password_cost, concurrency, token_calls, ..config.service_settings(role, config.timing.lease) };
        let service = Service::new(Arc::clone(store), Arc::clone(&coherence), environment, keys, settings);
        let follower = Arc::clone(&service);
        tokio::spawn(async move { follower.follow_feed(CancellationToken::new()).await });
        while !service.is_ready().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Self { service, coherence }
    }

    /// Adds an operator with every code, and signs in.
    pub async fn operator(&self, tenant: &str, username: &str) -> NewSession {
        let (tenant, name) = (tenant.parse().expect("a tenant"), username.parse().expect("a name"));
        let password = Password::unchecked(PASSWORD.to_owned());
        let origin = self.service.command_line_origin(None);
        self.service
            .add_operator(&origin, tenant, name, password, Permissions::all_of(false))
            .await
            .expect("an operator");
        self.sign_in(username).await
    }

    pub async fn sign_in(&self, username: &str) -> NewSession {
        let (username, password) = (username.to_owned(), Password::unchecked(PASSWORD.to_owned()));
        let sign_in = SignIn { username, password, devices: Vec::new(), replaced: None, user_agent: None };
        self.service.sign_in(self.service.request(None), sign_in).await.expect("a session")
    }
}
