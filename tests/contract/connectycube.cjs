// Drives the unmodified `connectycube` package, of 6 or of 3: BASE AUTH_KEY AUTH_SECRET TOKEN. Writes what it was answered.
// Those before 6 take a host, sign their sessions, and sign users up within one.
const module_ = require('connectycube')
const ConnectyCube = module_.default || module_
const [base, authKey, authSecret, token] = process.argv.slice(-4)
const isOld = !ConnectyCube.version || Number(ConnectyCube.version.split('.')[0]) < 6

async function main() {
  const said = {}
  let expired = 0
  ConnectyCube.init(isOld ? { appId: 1, authKey, authSecret } : { appId: 1, authKey }, {
    endpoints: isOld ? { api: base.replace('https://', '') } : { api_url: base },
    debug: { mode: 0 },
    on: {
      sessionExpired: async (response, retry) => {
        expired += 1
        const session = await ConnectyCube.createSession({ login: 'node', password: 'node-pr0be' })
        retry(session)
      },
    },
  })
  const user = { login: 'node', password: 'node-pr0be', full_name: 'Node', tag_list: ['probe', 'vip'] }
  if (isOld) await ConnectyCube.createSession()
  said.signedUp = await ConnectyCube.users.signup(user)
  said.nobody = await ConnectyCube.createSession()
  said.loggedIn = await ConnectyCube.login({ login: user.login, password: user.password })
  await ConnectyCube.destroySession()
  said.session = await ConnectyCube.createSession({ login: user.login, password: user.password })
  const id = said.session.user_id
  said.wrong = await ConnectyCube.createSession({ login: user.login, password: 'wrong' }).catch((error) => error)
  await ConnectyCube.createSession({ login: user.login, password: user.password })
  const subscriptions = ConnectyCube.pushnotifications.subscriptions
  const events = ConnectyCube.pushnotifications.events
  said.subscribed = await subscriptions.create({
    notification_channel: 'apns',
    push_token: { environment: 'development', client_identification_sequence: token, bundle_identifier: 'com.example.orchard' },
    device: { platform: 'ios', udid: 'PROBE-05bd' },
  })
  said.subscriptions = await subscriptions.list()
  said.found = await ConnectyCube.users.getV2({ login: { in: ['node', 'nobody'] }, sort_desc: 'id', limit: 5 })
  said.byLogin = await ConnectyCube.users.get({ login: 'node' })
  said.byTags = await ConnectyCube.users.get({ tags: 'vip', per_page: 5 })
  said.page = await ConnectyCube.users.get({ filter: [{ field: 'id', param: 'in', value: [id] }] })
  said.notFound = await ConnectyCube.users.get({ email: 'nobody@example.com' }).catch((error) => error)
  const payload = JSON.stringify({ message: 'Walking in a flowers garden', ios_badge: 2, user_id: '51' })
  const message = Buffer.from(payload).toString('base64')
  const event = { notification_type: 'push', environment: 'development', message }
  said.sent = await events.create({ ...event, user: { ids: [id] } })
  said.tagged = await events.create({ ...event, user: { tags: { any: 'vip,other', exclude: 'banned' } } })
  const date = Math.floor(Date.now() / 1000) + 86400
  said.later = await events.create({ ...event, user: { ids: [id] }, event_type: 'fixed_date', date })
  said.nobodyToSendTo = await events.create({ ...event, user: { ids: [999999999] } }).catch((error) => error)
  // Events are listed and deleted by the package's own transport: it has no call for that.
  const ajax = (params) => ConnectyCube.service.ajax(params)
  said.listed = await ajax({ type: 'GET', url: `${base}/events.json`, data: { page: 1, per_page: 50 } })
  const place = `${base}/events/${said.later[0].event.id}.json`
  said.renamed = await ajax({ type: 'PUT', url: place, data: { event: { name: 'Updated name' } } })
  await ajax({ type: 'DELETE', url: place, dataType: 'text' })
  said.gone = await ajax({ type: 'GET', url: place }).catch((error) => error)
  ConnectyCube.setSession({ token: 'F'.repeat(40) })
  said.afterExpiry = await subscriptions.list()
  said.expired = expired
  await subscriptions.delete(said.subscribed[0].subscription.id)
  said.left = await subscriptions.list()
  await ConnectyCube.logout()
  await ConnectyCube.destroySession()
  const last = await ConnectyCube.createSession({ login: user.login, password: user.password })
  await ConnectyCube.users.delete()
  said.lastSession = last.token
  process.stdout.write(JSON.stringify(said))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
