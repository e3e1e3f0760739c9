// Drives the unmodified `backendless` package, of 8 or of 7: BASE APP_ID API_KEY TOKEN. Writes what it was answered.
const Backendless = require('backendless')
const [base, appId, apiKey, token] = process.argv.slice(-4)
const EMAIL = 'node@example.com'
const PASSWORD = 'node-pr0be'
const DAY = 86400000
const caught = (error) => ({ code: error.code, message: error.message, status: error.status })

async function main() {
  const said = {}
  Backendless.initApp(appId === '-' ? base : { appId, apiKey, serverURL: base })
  Backendless.setupDevice({ uuid: 'PROBE-39ff', platform: 'IOS', version: '17.5' })
  if (Backendless.appInfoPromise) said.info = await Backendless.appInfoPromise()
  const user = new Backendless.User()
  Object.assign(user, { email: EMAIL, password: PASSWORD, name: 'Node' })
  said.registered = await Backendless.UserService.register(user)
  said.twice = await Backendless.UserService.register(user).catch(caught)
  said.wrong = await Backendless.UserService.login(EMAIL, 'wrong').catch(caught)
  said.loggedIn = await Backendless.UserService.login(EMAIL, PASSWORD)
  said.valid = await Backendless.UserService.isValidLogin()
  said.restored = await Backendless.UserService.restorePassword(EMAIL).catch(caught)

  const messaging = Backendless.Messaging
  const expiration = new Date(Date.now() + DAY)
  said.expiration = expiration.getTime() / 1000
  said.device = await messaging.registerDevice(token, ['default', 'news'], expiration)
  said.registrations = await messaging.getRegistrations()

  const headers = {
    'ios-alert': 'iOS text', 'ios-alert-title': 'iOS title', 'ios-badge': '1', 'ios-sound': 'sound.wav',
    'android-ticker-text': 'ticker', 'android-content-title': 'Title', 'android-content-text': 'Text', custom: 'value',
  }
  const options = (more) => new messaging.DeliveryOptions({ publishPolicy: 'PUSH', ...more })
  const publish = (channel, message, more) =>
    messaging.publish(channel, message, new messaging.PublishOptions({ headers, publisherId: 'probe' }), options(more))
  said.toChannel = await publish('news', 'one')
  said.toDevice = await publish('elsewhere', 'two', { pushSinglecast: ['PROBE-39ff'] })
  said.toSystems = await publish('default', 'three', { pushBroadcast: 3 })
  said.toNames = await publish('default', 'four', { pushBroadcast: 'IOS|ANDROID' })
  said.toOthers = await publish('default', 'never', { pushBroadcast: 2 })
  said.pubsub = await messaging.publish('default', { any: { json: [1, true, null] } })
  said.unknown = await publish('default', 'never', { pushSinglecast: ['nobody'] })
  said.later = await publish('default', 'later', {
    publishAt: Date.now() + DAY, repeatEvery: 3600, repeatExpiresAt: Date.now() + 2 * DAY,
  })
  said.past = await publish('default', 'late', { publishAt: Date.now() - DAY }).catch(caught)
  said.order = await publish('default', 'late', {
    publishAt: Date.now() + 2 * DAY, repeatEvery: 3600, repeatExpiresAt: Date.now() + DAY,
  }).catch(caught)
  said.laterStatus = await messaging.getMessageStatus(said.later.messageId)
  said.cancelled = await messaging.cancel(said.later.messageId)
  said.cancelledAgain = await messaging.cancel(said.later.messageId).catch(caught)
  said.cancelledStatus = await messaging.getMessageStatus(said.later.messageId)
  said.status = await messaging.getMessageStatus(said.toChannel.messageId)

  said.templates = await messaging.getPushTemplates('ios')
  said.byTemplate = await messaging.pushWithTemplate('MyTemplate', { place: 'Kyiv', n: 1 })
  said.withoutValues = await messaging.pushWithTemplate('MyTemplate').catch(caught)
  said.noTemplate = await messaging.pushWithTemplate('none').catch(caught)

  said.unregistered = await messaging.unregisterDevice()
  said.gone = await messaging.getRegistrations().catch(caught)
  said.loggedOut = (await Backendless.UserService.logout()) === undefined
  process.stdout.write(JSON.stringify(said))
}

main().then(() => process.exit(0), (error) => {
  console.error(error)
  process.exit(1)
})
