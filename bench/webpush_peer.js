// npm's web-push: the same messages as bench/webpush_encrypt.py, encrypted and counted.
'use strict'
const fs = require('fs')
const path = require('path')
const [modules, file, count] = process.argv.slice(2)
const webPush = require(path.join(modules, 'web-push'))
const subscriptions = JSON.parse(fs.readFileSync(file))
const text = Buffer.from('{"title":"Hello World","body":"' + 'x'.repeat(167) + '"}')

function work(messages) {
    let octets = 0
    for (let number = 0; number < messages; number++) {
        const [p256dh, auth] = subscriptions[number % subscriptions.length]
        octets += webPush.encrypt(p256dh, auth, text, 'aes128gcm').cipherText.length
    }
    return octets
}

work(512)
const begun = process.cpuUsage()
const messages = Number(count)
work(messages)
const used = process.cpuUsage(begun)
console.log(JSON.stringify({ cpu_us: (used.user + used.system) / messages }))
