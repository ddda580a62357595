use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut out = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn whole(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + payload.len()).unwrap();
    let mut out = length.to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.resize(HEADER, 0);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn socket() -> Vec<u8> {
    let mut out = vec![0; SOCKET];
    out[0] = IPV4;
    out[2] = PROBE;
    out[4..6].copy_from_slice(&5201_u16.to_be_bytes());
    out[6..8].copy_from_slice(&40_000_u16.to_be_bytes());
    out[8..12].copy_from_slice(&[10, 0, 0, 1]);
    out[24..28].copy_from_slice(&[10, 0, 0, 2]);
    out[56..60].copy_from_slice(&77_u32.to_ne_bytes());
    out[68..72].copy_from_slice(&99_u32.to_ne_bytes());
    let mut info = vec![0; 160];
    info[68..72].copy_from_slice(&20_000_u32.to_ne_bytes());
    out.extend(attribute(INFO, &info));
    out.extend(attribute(CONGESTION, b"cubic\0"));
    let memory: Vec<u8> = (1..=9_u32).flat_map(u32::to_ne_bytes).collect();
    out.extend(attribute(MEMORY, &memory));
    out
}

#[test]
fn a_connection_is_read_with_its_attributes() {
    let datagram = [whole(BY_FAMILY, &socket()), whole(DONE, &[0; 4])].concat();
    let answer = parse(&datagram);
    assert!(answer.is_last && answer.error.is_none());
    let [one] = &answer.connections[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(one.local, "10.0.0.1:5201".parse().unwrap());
    assert_eq!(one.remote, "10.0.0.2:40000".parse().unwrap());
    assert_eq!((one.inode, one.congestion.as_str()), (99, "cubic"));
    assert!(one.sample.is_probing);
    assert_eq!(one.sample.receive_queue, 77);
    assert_eq!(one.sample.tcp.rtt, 20_000);
    let memory = one.sample.memory.unwrap();
    assert_eq!((memory.receive, memory.receive_buffer), (1, 2));
    assert_eq!((memory.send_buffer, memory.send), (4, 6));
}

#[test]
fn an_error_has_its_number() {
    let answer = parse(&whole(ERROR, &(-2_i32).to_ne_bytes()));
    assert_eq!((answer.error, answer.is_last), (Some(2), true));
    // The largest there is has no opposite.
    let answer = parse(&whole(ERROR, &i32::MIN.to_ne_bytes()));
    assert_eq!(answer.error, Some(i32::MAX));
}

#[test]
fn what_is_cut_short_or_lies_of_its_length_is_left_out() {
    let datagram = [whole(BY_FAMILY, &socket()), whole(DONE, &[0; 4])].concat();
    for length in 0..datagram.len() {
        assert!(parse(&datagram[..length]).connections.len() <= 1);
    }
    // Each byte wrong by itself: nothing may panic or go on for ever.
    for at in 0..datagram.len() {
        for value in [0, 1, 3, 0x7f, 0xff] {
            let mut wrong = datagram.clone();
            wrong[at] = value;
            assert!(parse(&wrong).connections.len() <= 2);
        }
    }
}

#[test]
fn a_socket_without_figures_tells_nothing() {
    let answer = parse(&whole(BY_FAMILY, &socket()[..SOCKET]));
    assert!(answer.connections.is_empty());
}
