//! The clients of all accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::naming::Account;
use crate::provider::client::Client;

/// A client for each account in use. Each has its own token, limits and health; their calls are counted in one
/// place. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Clients(BTreeMap<Account, Arc<Client>>);

impl Clients {
    /// Of these accounts.
    #[must_use]
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        Self::default().with(clients, |_| true)
    }

    /// With these new ones, each in the place of the one before of its account; of the others those whose account
    /// is still in use.
    #[must_use]
    pub fn with(
        &self,
        new: impl IntoIterator<Item = Client>,
        is_in_use: impl Fn(Account) -> bool,
    ) -> Self {
        let mut all = self.0.clone();
        for client in new {
            let account = client.whose();
            let client = match (self.0.get(&account), all.values().next()) {
                (Some(before), _) => client.in_place_of(before),
                (None, Some(other)) => client.counted_beside(other),
                (None, None) => client,
            };
            all.insert(account, Arc::new(client));
        }
        all.retain(|account, _| is_in_use(*account));
        Self(all)
    }

    /// The client of an account.
    #[must_use]
    pub fn of(&self, account: Account) -> Option<&Arc<Client>> {
        self.0.get(&account)
    }

    /// Each of them, in the order of the accounts' names, the one of `[api]` first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.0.values()
    }
}

impl From<Client> for Clients {
    fn from(client: Client) -> Self {
        Self::new([client])
    }
}
