use futures_util::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

const MAX_FRAME: usize = 1000;

/// A server's end and what is on the other end of it: bytes.
fn raw() -> (WebSocket<DuplexStream>, DuplexStream) {
    let (client, server) = duplex(64 * 1024);
    (WebSocket::new(server, MAX_FRAME), client)
}

/// The same, with tungstenite's client at the other end.
async fn pair() -> (WebSocket<DuplexStream>, WebSocketStream<DuplexStream>) {
    let (server, client) = raw();
    (server, WebSocketStream::from_raw_socket(client, Role::Client, None).await)
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// What the server answers to bytes that it must not take.
async fn refused(bytes: &[u8]) -> u16 {
    let (mut server, mut client) = raw();
    client.write_all(&frame(0x82, b"before")).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut before = [0; 6];
    server.read_exact(&mut before).await.unwrap();
    assert_eq!(&before, b"before");
    assert!(server.read(&mut [0; 100]).await.is_err(), "it was taken");
    let mut close = [0; 4];
    client.read_exact(&mut close).await.unwrap();
    let [first, len, code @ ..] = close;
    assert_eq!((first, len), (0x88, 2));
    u16::from_be_bytes(code)
}

#[tokio::test]
async fn mqtt_6_0_0_1_only_binary_frames_are_taken() {
    assert_eq!(refused(&frame(0x81, b"text")).await, 1003);
}

#[tokio::test]
async fn what_breaks_the_protocol_is_answered_with_its_code() {
    let long = frame(0x82, &[0; MAX_FRAME + 1]);
    for (bytes, code) in [
        (&b"\x82\x01x"[..], 1002),                               // not masked
        (&frame(0xc2, b"x"), 1002),                              // a reserved bit
        (&frame(0x80, b"x"), 1002),                              // goes on with what was not begun
        (&frame(0x09, b"x"), 1002),                              // a ping in pieces
        (&frame(0x89, &[0; 126]), 1002),                         // a ping too long
        (&frame(0x83, b"x"), 1002),                              // no known kind
        (&[frame(0x02, b""), frame(0x82, b"x")].concat(), 1002), // begun twice
        (&long, 1009),
    ] {
        assert_eq!(refused(bytes).await, code, "{:02x?}", &bytes[..2]);
    }
}

#[tokio::test]
async fn a_ping_is_answered_between_the_pieces_of_a_message() {
    let (mut server, mut client) = raw();
    let pieces = [frame(0x02, b"ab"), frame(0x89, b"hello"), frame(0x80, b"c")].concat();
    client.write_all(&pieces).await.unwrap();
    let mut message = [0; 3];
    server.read_exact(&mut message).await.unwrap();
    assert_eq!(&message, b"abc");
    server.flush().await.unwrap();
    let mut pong = [0; 7];
    client.read_exact(&mut pong).await.unwrap();
    assert_eq!(&pong, b"\x8a\x05hello");
}

#[tokio::test]
async fn a_flood_of_pings_that_nobody_reads_the_answers_of_is_bounded() {
    let (mut server, mut client) = raw();
    let pings = frame(0x89, &[0; MAX_CONTROL]).repeat(400);
    let sent = tokio::spawn(async move {
        for _ in 0..100 {
            client.write_all(&pings).await.unwrap();
        }
        client.write_all(&frame(0x82, b"x")).await.unwrap();
        client
    });
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    assert!(server.out.len() <= MAX_SENT + MAX_CONTROL + MAX_HEADER, "{}", server.out.len());
    drop(sent.await.unwrap());
}

#[tokio::test]
async fn whoever_sends_nothing_but_control_frames_is_seen() {
    let (mut server, mut client) = raw();
    let pings = frame(0x8a, b"pong").repeat(100);
    client.write_all(&pings).await.unwrap();
    let mut buffer = [0; 4096];
    let read = std::future::poll_fn(|cx| {
        let read = Pin::new(&mut server).poll_read(cx, &mut ReadBuf::new(&mut buffer));
        Poll::Ready(read.is_pending())
    });
    assert!(read.await, "there is nothing for MQTT");
    assert_eq!((server.take_overhead(), server.take_overhead()), (pings.len(), 0));
}

#[tokio::test]
async fn a_close_is_answered_and_ends_the_stream() {
    let (mut server, mut client) = pair().await;
    client.send(Message::Binary(b"last".as_slice().into())).await.unwrap();
    client.close(None).await.unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"last");
    assert!(client.next().await.unwrap().unwrap().is_close());
    assert!(server.write_all(b"x").await.is_err(), "nothing follows a close");
}

#[tokio::test]
async fn an_end_is_said_before_the_socket_closes() {
    let (mut server, mut client) = pair().await;
    server.write_all(b"bye").await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap().into_data().as_ref(), b"bye");
    let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else {
        panic!("not closed")
    };
    assert_eq!(u16::from(close.code), 1000);
}

#[tokio::test]
async fn what_is_written_arrives_whole_however_much_it_is() {
    let (mut server, mut client) = pair().await;
    let data: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let sent = data.clone();
    let writing = tokio::spawn(async move {
        server.write_all(&sent).await.unwrap();
        server.flush().await.unwrap();
        server
    });
    let mut got = Vec::new();
    while got.len() < data.len() {
        got.extend_from_slice(&client.next().await.unwrap().unwrap().into_data());
    }
    assert!(got == data);
    drop(writing.await.unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Frames of any length, whole or in pieces, in reads of any length.
    #[test]
    fn mqtt_6_0_0_2_where_frames_begin_and_end_does_not_matter(
        lens in prop::collection::vec((0usize..400, any::<bool>(), any::<bool>()), 1..20),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let (mut bytes, mut expected, mut open) = (Vec::new(), Vec::new(), false);
        for (n, (len, last, ping)) in lens.into_iter().enumerate() {
            let payload: Vec<u8> = (0..len).map(|i| (i + n) as u8).collect();
            bytes.extend(frame(if last { 0x80 } else { 0 } | if open { 0 } else { 2 }, &payload));
            if ping {
                bytes.extend(frame(0x8a, b"pong"));
            }
            expected.extend(payload);
            open = !last;
        }
        let (mut socket, _client) = raw();
        let (mut got, mut cuts, mut rest) = (Vec::new(), cuts.iter().cycle(), &mut bytes[..]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at_mut(rest.len().min(*cuts.next().unwrap()));
            let kept = WebSocket::take(&mut socket, piece);
            got.extend_from_slice(&piece[..kept]);
            rest = after;
        }
        prop_assert!(socket.ended.is_none());
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut socket, _client) = raw();
        let kept = WebSocket::take(&mut socket, &mut bytes);
        prop_assert!(kept <= bytes.len());
    }
}
