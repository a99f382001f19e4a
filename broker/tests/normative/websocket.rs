//! MQTT in WebSocket frames (section 6 of both standards).

use std::sync::Arc;

use futures_util::{SinkExt as _, StreamExt as _};
use loushan_broker::Broker;
use loushan_broker::auth::AllowAll;
use loushan_broker::config::BrokerConfig;
use loushan_broker::listen::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::support::{Scripted, within};
use super::wire::{BOTH, Connect, DISCONNECT, PINGREQ, Publish};

/// A broker that listens for WebSockets, as long as the guard lives.
async fn served() -> (std::net::SocketAddr, DropGuard) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let config = BrokerConfig::default();
    let broker = Broker::with_authority(config, Scripted::automatic(), Arc::new(AllowAll));
    let stop = CancellationToken::new();
    let (listeners, stopped) = ([Listener::web_socket(socket)], stop.clone());
    tokio::spawn(async move { broker.serve_on(listeners, stopped).await });
    (address, stop.drop_guard())
}

/// A WebSocket, and the sub-protocol that the server chose.
async fn opened(
    address: std::net::SocketAddr,
    offered: &'static str,
) -> (WebSocketStream<TcpStream>, String) {
    let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(offered));
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, response) = within("the handshake", client_async(request, stream)).await.unwrap();
    let chosen = response.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
    (socket, chosen)
}

/// What is heard until the end.
async fn heard(mut socket: WebSocketStream<TcpStream>) -> Vec<u8> {
    within("the end", async {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            match message {
                Message::Binary(bytes) => heard.extend_from_slice(&bytes),
                Message::Close(_) => {}
                other => panic!("{other:?}"),
            }
        }
        heard
    })
    .await
}

// 3.1.1: [MQTT-6.0.0-4]
// 5: [MQTT-6.0.0-4]
#[tokio::test]
async fn of_the_sub_protocols_offered_mqtt_is_chosen() {
    let (address, _guard) = served().await;
    for offered in ["mqtt", "amqp, mqtt", "mqtt, mqttv3.1"] {
        assert_eq!(opened(address, offered).await.1, "mqtt");
    }
}

// 3.1.1: [MQTT-6.0.0-2]
// 5: [MQTT-6.0.0-2]
#[tokio::test]
async fn packets_and_frames_need_not_end_together() {
    let (address, _guard) = served().await;
    for version in BOTH {
        let said = [
            Connect::clean("c").bytes(version),
            Publish::new(0, "t", vec![7; 300]).bytes(version),
            PINGREQ.to_vec(),
            DISCONNECT.to_vec(),
        ]
        .concat();
        for piece in [1, 5, 100, said.len()] {
            let (mut socket, _) = opened(address, "mqtt").await;
            for piece in said.chunks(piece) {
                socket.send(Message::Binary(piece.to_vec().into())).await.unwrap();
            }
            let heard = heard(socket).await;
            assert_eq!(heard.first(), Some(&0x20));
            assert!(heard.ends_with(&[0xd0, 0]), "{heard:02x?}");
        }
    }
}

// 3.1.1: [MQTT-6.0.0-1]
// 5: [MQTT-6.0.0-1]
#[tokio::test]
async fn a_text_frame_ends_the_connection_and_what_it_says_is_not_done() {
    let (address, _guard) = served().await;
    for version in BOTH {
        let (mut socket, _) = opened(address, "mqtt").await;
        let connect = Connect::clean("c").bytes(version);
        socket.send(Message::Binary(connect.into())).await.unwrap();
        // A publish whose bytes are text.
        let text = String::from_utf8(Publish::new(1, "t", "x").bytes(version)).unwrap();
        socket.send(Message::Text(text.into())).await.unwrap();
        let heard = heard(socket).await;
        assert_eq!(heard.first(), Some(&0x20));
        assert!(!heard.windows(4).any(|w| w == [0x40, 2, 0, 1]), "{heard:02x?}");
    }
}
