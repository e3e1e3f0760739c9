"""ConnectyCube: sessions, users, subscriptions and events, as its platform API and SDKs have them."""
