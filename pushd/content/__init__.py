"""Rendering: a Message as each platform takes it, and the checks that come before a send is accepted.

What an app finds in an APNs payload, beside Apple's `aps`:

- `data`: the message's `data`, as it is. (File provider pushes, whose keys iOS itself reads, carry them at the top.)
- `pushd`: everything else of ours, only what the message has: `id` (the notification's, to report an open with),
  `url` (open it on a tap), `icon`, `image`, `media` (list of `{"url", "type"}`), `buttons` (list of `{"id", "text",
  "url", "icon"}`) and `badge_increment`.

iOS counts no badges and fetches no pictures by itself: a message with `badge_increment`, `image`, `media`, `icon` or
`buttons` sets `mutable-content`, so that the app's notification service extension runs and applies them.
`badge_increment` is for it to add to the badge that the app last stored in the shared app group, never below 0.
Live Activities, widgets and controls are drawn by iOS from `aps` alone, so `pushd` is absent there.

What an app finds in an FCM message's `data`, which holds texts only: the keys of the message's `data`, with values that
are no text as their JSON, and `pushd`, the JSON of everything of ours as above. Keys that FCM keeps for itself (`from`,
`message_type`, those that begin with `google` or `gcm`) are in the `data` within that.
"""
